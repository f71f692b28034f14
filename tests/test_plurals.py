"""A number before a noun: 'format_count' writes '1 image', and a plural after a bare number would say '1 images'."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from ffdi.core.errors import format_are, format_count
from tests.conftest import PROJECT

NOUNS = (
    *("batches", "bytes", "cells", "classes", "clusters", "columns", "cores", "days", "duplicates", "epochs", "errors"),
    *("experiments", "faces", "fakes", "faults", "features", "fields", "files", "folders", "folds", "GPUs", "groups"),
    *("hours", "images", "inputs", "keys", "kinds", "layers", "lines", "logits", "machines", "members", "minutes"),
    *("names", "networks", "others", "outputs", "pairs", "parameters", "pictures", "pixels", "points", "predictions"),
    *("problems", "processes", "ranks", "rows", "samples", "scenes", "scores", "seconds", "servers", "sets", "steps"),
    *("students", "teachers", "tensors", "threads", "times", "trials", "tries", "values", "videos", "views", "wheels"),
    *("workers", r"\w+\(s\)"),
)
ADJECTIVES = (
    *("bad", "fake", "golden", "held-out", "independent", "labelled", "loader", "more", "new", "other", "out-of-fold"),
    *("real", "test", "training", "unlabelled", "usable", "val"),
)
PLURAL = re.compile(rf" (?:(?:{'|'.join(ADJECTIVES)}) )*(?:{'|'.join(NOUNS)})(?!\w|-|/s| (?:the|a|an)\b)")
WORDS = ("column", "key", "name", "numbers", "split")
"""What is a word, and no number: 'val images'; or several numbers: '1404 and 1 numbers'."""
FILES = [*sorted((PROJECT / "ffdi").rglob("*.py")), PROJECT / "tasks.py"]


def find_bare_plurals(source: str) -> list[str]:
    """The numbers, with their nouns, that are written without `format_count`."""
    strings = [one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.JoinedStr)]
    return [f"line {value.lineno}: {ast.unparse(value.value)}{noun}" for one in strings for value, noun in _find(one)]


def _find(string: ast.JoinedStr) -> Iterator[tuple[ast.FormattedValue, str]]:
    parts = string.values
    for place, (value, after) in enumerate(pairwise(parts)):
        if not isinstance(value, ast.FormattedValue) or not isinstance(after, ast.Constant):
            continue
        before = parts[place - 1] if place else None
        found = PLURAL.match(str(after.value))
        if found and not _is_word(value.value) and not _is_large(value) and not _is_extent(before):
            yield value, found[0]


def _is_word(value: ast.expr) -> bool:
    match value:
        case ast.Subscript(slice=ast.Constant(value=str(name))) | ast.Attribute(attr=name) | ast.Name(id=name):
            return name in WORDS or name.isupper()
        case ast.Call(func=ast.Attribute(attr="join")):
            return True
    return False


def _is_large(value: ast.FormattedValue) -> bool:
    """Whether its format is one of fractions, or of numbers with thousands."""
    return value.format_spec is not None and bool(re.search("[f,%]'$", ast.unparse(value.format_spec)))


def _is_extent(before: ast.expr | None) -> bool:
    """Whether the number is the second of '640 x 480'."""
    return isinstance(before, ast.Constant) and str(before.value).endswith(" x ")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_no_message_can_say_1_images(path: Path) -> None:
    assert find_bare_plurals(path.read_text(encoding="utf-8")) == []


def test_what_is_found() -> None:
    found = [
        'f"{len(images)} images"',
        'f"{total} training images, {k} folds"',
        'f"{count} file(s) read"',
        "f\"{scan['images']} images.\"",
    ]
    assert [len(find_bare_plurals(one)) for one in found] == [1, 2, 1, 1]
    left_out = [
        'f"{rate:.1f} images/s, {rate} images/s"',
        'f"{split} images, {table.split} images"',
        'f"{parameters:,} parameters, fewer than {MIN_UNITS} groups"',
        'f"{width} x {height} pixels"',
        "f\"{format_count(total, 'image')}, {path} names the images\"",
    ]
    assert [find_bare_plurals(one) for one in left_out] == [[]] * len(left_out)


def test_words_after_a_count_agree_with_it() -> None:
    assert [format_count(count, "bad key") for count in (0, 1, 2)] == ["0 bad keys", "1 bad key", "2 bad keys"]
    assert [format_are(count) for count in (0, 1)] == ["are 0", "is 1"]
    assert [format_are(count, "GPU") for count in (1, 2)] == ["is 1 GPU", "are 2 GPUs"]
