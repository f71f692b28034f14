"""Words of an earlier, private dialect do not come back into code, messages and docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import PROJECT

WORDS = (
    *("told", "begun", "heard", "said", "spoken", "manners", "nursery", "deaf", "awake", "company", "leads nowhere"),
    *("drawn up", "goes on", "is no valid", "verbs?", "house", "rooms?"),
)
PLACES = (
    "ffdi",
    "tests",
    "benchmarks",
    "docs",
    "experiments",
    "tasks.py",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
)
KINDS = (".py", ".md", ".toml", ".j2", ".css")
FILES = [
    path
    for place in PLACES
    for path in [PROJECT / place, *sorted((PROJECT / place).rglob("*"))]
    if path.suffix in KINDS and path.name != "test_words.py" and "zh-CN" not in path.name
]
PATTERN = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(WORDS)})(?![A-Za-z])", re.IGNORECASE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_a_file_has_no_word_of_the_old_dialect(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [f"line {number}: {line}" for number, line in enumerate(lines, 1) if PATTERN.search(line)] == []
