"""Serving a class: configurations that the proxies accept, one secret, clear refusals."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from labcore import cli, serving
from labcore.serving import Fleet, ServeError, haproxy_config, nginx_config, ports


def test_replicas_take_the_ports_after_the_public_one() -> None:
    assert ports(8501, 3) == [8502, 8503, 8504]
    with pytest.raises(ValueError, match="--replicas must be at least 1, got 0"):
        ports(8501, 0)
    with pytest.raises(ValueError, match="--port must leave room for 2 more"):
        ports(65534, 2)


@pytest.mark.parametrize("proxy", ["haproxy", "nginx"])
def test_the_proxies_accept_what_is_written(proxy: str, tmp_path: Path) -> None:
    if shutil.which(proxy) is None:
        pytest.skip(f"{proxy} is not installed")
    path = tmp_path / "proxy.conf"
    if proxy == "haproxy":
        path.write_text(haproxy_config("127.0.0.1", 18501, [18502, 18503]))
        command = ["haproxy", "-c", "-f", str(path)]
    else:
        path.write_text(nginx_config("127.0.0.1", 18501, [18502, 18503], tmp_path))
        command = ["nginx", "-t", "-c", str(path), "-e", str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_stickiness_is_by_cookie_never_by_sender() -> None:
    for text in (
        haproxy_config("0.0.0.0", 80, [81, 82]),
        nginx_config("0.0.0.0", 80, [81, 82], Path("/tmp")),
    ):
        assert "LABSRV" in text
        assert text.count("127.0.0.1:8") == 2
        assert "source" not in text.replace("# ", "")
        assert "ip_hash" not in text


def test_the_secret_is_made_once_and_is_mine(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    monkeypatch.delenv("STREAMLIT_SERVER_COOKIE_SECRET", raising=False)
    first = serving.cookie_secret()
    assert len(first) == 64
    assert serving.cookie_secret() == first
    (path,) = tmp_path.rglob("cookie-secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.setenv("STREAMLIT_SERVER_COOKIE_SECRET", "given")
    assert serving.cookie_secret() == "given"


def test_a_missing_proxy_is_named_before_anything_starts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(serving.shutil, "which", lambda name: None)
    fleet = Fleet("127.0.0.1", 18501, 2, folder=tmp_path / "serve")
    with pytest.raises(ServeError, match="apt-get install haproxy, or --proxy none"):
        fleet.start()
    assert not (tmp_path / "serve").exists()


def test_a_replica_that_cannot_start_is_told_and_nothing_stays(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    port = cli.free_port(18601, exact=False)
    fleet = Fleet("127.0.0.1", port, 1, "none", threads=0, folder=tmp_path / "serve")
    try:
        with pytest.raises(ServeError, match="threads must be at least 1"):
            fleet.start(lambda said: None)
    finally:
        fleet.stop()
    assert all(process.poll() is not None for process in fleet._servers.values())
