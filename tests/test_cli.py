"""The command line: exit codes, one-line failures, JSON, ports."""

import json
import socket
from pathlib import Path

import pytest

from labcore import cli


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = cli.main(argv)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_usage_errors_exit_with_2() -> None:
    for argv in ([], ["fly"], ["run", "kvcache", "--quick", "--full"]):
        with pytest.raises(SystemExit) as error:
            cli.main(argv)
        assert error.value.code == 2


def test_unknown_topic_is_one_line_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "run", "nonsense")
    assert (code, out) == (1, "")
    assert err.startswith("lab: no topic 'nonsense' here")
    assert err.count("\n") == 1
    code, _, err = call(capsys, "claims", "--work", "nonsense")
    assert code == 1
    assert "topics are" in err
    code, _, err = call(capsys, "bench", "nonsense")
    assert code == 1
    assert "no bench" in err


def test_fetch_without_a_name_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "fetch")
    assert code == 1
    assert "smollm2-135m" in err


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = call(capsys, "doctor", "--json")
    assert {"python", "torch", "cache"} <= {row["name"] for row in json.loads(out)}
    code, out, _ = call(capsys, "assets", "--json")
    assert code == 0
    assert "smollm2-135m" in {row["name"] for row in json.loads(out)}
    code, out, _ = call(capsys, "claims", "--json")
    assert code == 0
    assert isinstance(json.loads(out), list)


def test_a_damaged_result_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.npz"
    path.write_bytes(b"not a zip")
    code, _, err = call(capsys, "claims", "--work", "kvcache", "--result", str(path))
    assert code == 1
    assert "r.npz is damaged" in err


def test_a_busy_port_is_skipped_or_named() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        busy = holder.getsockname()[1]
        assert cli.free_port(busy, exact=False) > busy
        with pytest.raises(cli.ExpectedError, match=f"port {busy} is busy"):
            cli.free_port(busy, exact=True)


def test_rows_print_as_an_aligned_table(capsys: pytest.CaptureFixture[str]) -> None:
    cli.print_rows([{"name": "a", "value": 0.123456}, {"name": "bb", "value": None}], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "value"]
    assert lines[2] == "a     0.1235"
    assert lines[3] == "bb"
