"""Of hundreds of data folders, each is read as an independent walk reads it, or refused with its cause."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.data import folder_mutants

COUNT = 300


def test_every_folder_is_read_as_meant_or_refused_by_its_cause(tmp_path: Path) -> None:
    found = list(folder_mutants.cases(COUNT, 0, tmp_path / "set"))
    assert [(case.kinds, fault) for case, fault in found if fault] == []
    read = sum(case.rows is not None for case, _ in found)
    assert 0.3 * COUNT < read < 0.7 * COUNT
    kinds = {kind for case, _ in found for kind in case.kinds}
    wanted = {
        "nested",
        "unknown folder",
        "loose image",
        "no data.labels",
        "link: twice",
        "link: circle",
        "gone",
        "soft",
    }
    assert wanted <= kinds


def test_every_difference_is_a_fault(tmp_path: Path) -> None:
    for case, _ in folder_mutants.cases(20, 3, tmp_path / "set"):
        if case.rows is None:
            assert "none of" in folder_mutants.judge(replace(case, causes=["no such words"]), tmp_path / "set")
            assert folder_mutants.judge(replace(case, rows={}), tmp_path / "set").startswith("refused")
        else:
            name, *_ = case.rows
            for rows in ({**case.rows, name: 1 - case.rows[name]}, {**case.rows, "x": 0}, {}):
                assert folder_mutants.judge(replace(case, rows=rows), tmp_path / "set").startswith("read")
            assert "in spite of" in folder_mutants.judge(replace(case, rows=None), tmp_path / "set")
