"""What the documents say, held against what is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ffdi import __version__

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text()
DOCUMENTS = [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")]


def command(name: str) -> str:
    """A command that the README marks."""
    found = re.search(rf"<!-- command: {name} -->\n```\n(.+)\n```", README)
    assert found, name
    return found[1]


def test_the_first_command_runs_the_whole_way_on_the_demonstration() -> None:
    assert command("quickstart").endswith("invoke train-folds ensemble-submit export-onnx predict-onnx")


def test_ci_takes_its_command_from_the_readme() -> None:
    take = "grep -A2 '^<!-- command: tests -->$' README.md | tail -n 1"
    assert f"command=$({take})" in (PROJECT / ".ci" / "run").read_text()
    taken = subprocess.run(["bash", "-c", take], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert taken == command("tests") + "\n"
    assert command("tests").endswith("pytest -n 2")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_every_verb_and_flag_in_the_readme_exists() -> None:
    verbs = set(re.findall(r"invoke ([a-z]+(?:-[a-z]+)*)", README))
    verbs |= set(re.findall(r"^\| `([a-z-]+)` \|", README, flags=re.MULTILINE))
    listed = subprocess.run(
        [sys.executable, "-m", "invoke", "--list"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert verbs == set(re.findall(r"^  ([a-z-]+)  ", listed, flags=re.MULTILINE))
    help_texts = [
        subprocess.run(
            [sys.executable, "-m", "invoke", "--help", verb], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout
        for verb in sorted(verbs)
    ]
    flags = set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", README)) - {"--list", "--help"}
    assert {flag for flag in flags if not any(f"{flag}" in text for text in help_texts)} == set()


def test_every_room_stands_in_the_readmes_map() -> None:
    house = README[README.index("## The house") :]
    rooms = {path.name for path in (PROJECT / "ffdi").glob("*.py")} - {"__init__.py"}
    folders = {f"{path.name}/" for path in (PROJECT / "ffdi").iterdir() if (path / "__init__.py").is_file()}
    assert {name for name in rooms | folders if name not in house} == set()


def test_who_cites_it_cites_this_version() -> None:
    assert f"\nversion: {__version__}\n" in (PROJECT / "CITATION.cff").read_text()
