"""Of thousands of damaged label files, images and configs, none is taken for something that it does not say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ffdi.core.errors import DataError
from tests.data import input_mutants
from tests.data.input_mutants import LET_THROUGH, REFUSED, Mutant

COUNT = 700
"""Mutants of each of the three sorts."""


@pytest.mark.filterwarnings("ignore")  # Pillow's, as a judge
def test_no_mutant_slips_through_hangs_or_ends_in_a_traceback(tmp_path: Path) -> None:
    found = list(input_mutants.outcomes(COUNT, 0, tmp_path))
    assert len(found) == 3 * COUNT
    assert input_mutants.at_fault(found) == []
    counts = Counter((one.base, outcome) for one, outcome in found)
    bases = {*input_mutants.label_files(tmp_path), *input_mutants.pictures(), "config"}
    for base in bases - {"png", "png, palette", "png, alpha", "png, 16 bit"}:  # a PNG has checksums
        assert counts[base, LET_THROUGH] > 0
        assert counts[base, REFUSED] > 0


def test_the_bases_are_let_through(tmp_path: Path) -> None:
    none = {"nothing": lambda content, _: content}
    files, pictures = input_mutants.label_files(tmp_path), input_mutants.pictures()
    for one in input_mutants.mutants(files, none, len(files), 0):
        assert input_mutants.read_labels(one, tmp_path) == input_mutants.meant_by_labels(one, tmp_path)
    for one in input_mutants.mutants(pictures, none, len(pictures), 0):
        assert input_mutants.same_picture(input_mutants.read_picture(one), input_mutants.meant_by_picture(one))
    one = Mutant("config", (), input_mutants.SETTINGS.encode())
    meant = input_mutants.meant_by_config(one)
    assert meant is not None
    assert input_mutants.same_config(input_mutants.read_config(one, tmp_path), meant)


def raising(error: Exception) -> object:
    raise error


def waiting() -> object:
    while True:
        pass


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda: "a", input_mutants.LET_THROUGH),
        (lambda: "b", input_mutants.SLIPPED),
        (lambda: raising(DataError("x")), input_mutants.REFUSED),
        (lambda: raising(KeyError("x")), input_mutants.TRACEBACK),
        (waiting, input_mutants.HANGS),
    ],
)
def test_every_fault_of_a_reader_is_seen(read: object, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_mutants, "SECONDS", 1)
    assert input_mutants.outcome(read, lambda: "a", str.__eq__) == outcome  # type: ignore[arg-type]
    assert input_mutants.outcome(lambda: "a", lambda: None, str.__eq__) == input_mutants.SLIPPED
