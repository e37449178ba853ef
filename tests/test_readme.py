"""The README and the guides: every link leads somewhere, every command exists."""

import re
from pathlib import Path

import pytest

from labcore import cli

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "labcore/course/README.md",
]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
COMMAND = re.compile(r"\./lab ([a-z]+)")


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.stem)
def test_links_lead_to_files(path: Path) -> None:
    links = LINK.findall(path.read_text(encoding="utf-8"))
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing


def test_commands_exist() -> None:
    words = {word for path in TEXTS for word in COMMAND.findall(path.read_text(encoding="utf-8"))}
    (actions,) = [a for a in cli.build_parser()._actions if a.choices and a.dest != "help"]
    assert words
    assert words <= {*actions.choices, "setup"}


def test_every_work_is_on_the_map() -> None:
    from labcore.works import WORKS

    text = TEXTS[0].read_text(encoding="utf-8")
    for work in WORKS:
        if work.section == "Papers":
            assert f"| {work.id} |" in text
            assert f"`/{work.topic}`" in text


def test_one_file_has_the_command_of_every_full_experiment() -> None:
    from labcore.works import built_topics

    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    for topic in built_topics():
        assert f"./lab run {topic} --full --out labcore/{topic}/results" in text
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
