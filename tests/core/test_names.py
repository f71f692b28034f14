"""Names from outside: which are refused, how any is shown, and that accepted ones come back from everything written."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pytest

from ffdi.config.schema import DataConfig
from ffdi.core import console, names
from ffdi.core.errors import ConfigError, DataError
from ffdi.data.labels import metadata, table
from ffdi.experiments.workspace import Workspace
from ffdi.export import standalone
from ffdi.submission import kaggle
from tests import name_mutants
from tests.conftest import Invoke

STEP = 120
KEY = [
    *("DATA", "[bold]", "[/]", "_x", "a|b", "NA", "007", " x.jpg", "\u3000x", "a,b", 'a"b', "#010101", "x\x1b[31m"),
    *("x\u2028y.jpg", "x\x85.jpg", "\u202egpj.x", "👨\u200d👩\u200d👧.jpg", "=cmd|x", "{name}", "\\", "é", "e\u0301"),
]
"""Names that have once been taken for something else."""


@pytest.mark.filterwarnings("ignore")  # matplotlib's, of letters that it does not know
def test_every_name_is_refused_or_read_back_unchanged(tmp_path: Path) -> None:
    sample = [*dict.fromkeys([*KEY, *name_mutants.every(STEP)])]
    found = list(name_mutants.results(tmp_path, sample))
    assert name_mutants.at_fault(found) == []
    ways = {one.way for one in found}
    assert len(ways) > 40
    printed = {one.name for one in found if one.way == "errors and lines"}
    assert printed == set(sample)
    for way in ("image in a label file", "group", "groups.csv", "family", "column", "experiment", "--name"):
        outcomes = {one.outcome for one in found if one.way == way}
        assert outcomes == {name_mutants.ACCEPTED, name_mutants.REFUSED}, way


def test_the_harness_finds_faults() -> None:
    grade, attempt = name_mutants.grade, name_mutants.attempt
    assert grade("x", "a\nb", name_mutants.ACCEPTED).outcome == name_mutants.LET_IN
    assert grade("x", "ab", name_mutants.REFUSED).outcome == name_mutants.FOR_NOTHING

    def refuses(name: str) -> str:
        raise ConfigError(f"no {name}")

    def fails(_: str) -> str:
        raise KeyError

    outcomes = [
        attempt("x", [name], ask, lambda name: name)[0].outcome
        for name, ask in (("ab", str.upper), ("a\nb", refuses), ("ab", fails))
    ]
    assert outcomes == [name_mutants.CHANGED, name_mutants.DROPPED, name_mutants.TRACEBACK]
    assert name_mutants.compared("x", ["a", "b"], lambda: ["a"])[1].outcome == name_mutants.DROPPED


def test_the_rule_follows_unicode_categories() -> None:
    seen = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)}
    letters = [chr(code) for code in range(sys.maxunicode + 1)]
    expected = {one for one in letters if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp", "Cf")}
    reserved = {"\u2065"}
    assert set(names.UNSAFE.findall("a".join(letters))) == expected - set(map(chr, seen)) | reserved
    assert standalone.UNSAFE.pattern == names.UNSAFE.pattern


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("x\u2028.jpg", "has a character that ends a line: U+2028"),
        ("x\x85.jpg", "has a control character: U+0085"),
        ("\u202egpj.exe", "has a character that hides or reorders text: U+202E"),
        ("a\u200db.jpg", "has a character that hides or reorders text: U+200D"),
        ("\udce9.jpg", "is not UTF-8"),
        ("=cmd|' /C calc'!A0", "is a formula to a spreadsheet"),
        ("＝SUM（A1）", "is a formula to a spreadsheet"),
        ("a;=SUM(A1)", "is a formula to a spreadsheet"),
        ("-SUM (A1)", "is a formula to a spreadsheet"),
        ("=(A1)", "is a formula to a spreadsheet"),
        ("='file:///x.ods'#$Sheet1.A1", "is a formula to a spreadsheet"),
        *(
            (name, "")
            for name in (
                "-1.jpg",
                "-1 (2).jpg",
                "@home.png",
                "+x",
                "=1.jpg",
                "-1#2.jpg",
                "a (1).jpg",
                "a=b(c)",
                "a; b (1).jpg",
            )
        ),
        *(
            (name, "")
            for name in ("\u00a0x", "\u3000", "👨\u200d👩\u200d👧", "می\u200cخواهم", "❤\ufe0f", "e\u0301", "")
        ),
    ],
)
def test_a_bad_name_has_a_reason(name: str, fault: str) -> None:
    assert names.find_fault(name) == fault


def test_a_name_in_another_normalisation_is_an_error_with_a_reason(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))
    (tmp_path / apart).touch()
    (tmp_path / "list.csv").write_text(f"img_name\n{composed}\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        table.read_list(tmp_path / "list.csv")
    assert caught.value.problems == (
        f"list.csv line 2: {composed} is not in {tmp_path.name}/; a name that looks the same exists, in another "
        "Unicode normalisation (this one is NFC)",
    )
    (tmp_path / composed).touch()
    assert table.read_list(tmp_path / "list.csv").img_name.tolist() == [composed]


def test_blanks_of_an_image_name_are_preserved(tmp_path: Path) -> None:
    for name in (" a.jpg", "a.jpg", "b.jpg", "\u3000c.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "list.csv").write_text("img_name\n a.jpg\na.jpg\t\n b.jpg\n\u3000c.jpg\n", encoding="utf-8")
    assert table.read_list(tmp_path / "list.csv").img_name.tolist() == [" a.jpg", "a.jpg", "b.jpg", "\u3000c.jpg"]


def test_rows_of_tables_with_more_columns_are_not_dropped(tmp_path: Path) -> None:
    rows = name_mutants.Table(
        "train", tmp_path, name_mutants.np.array(["a.jpg", "b.jpg"]), None, None, tmp_path / "none"
    )
    (tmp_path / "families.csv").write_text("img_name,family\na.jpg,x\nb.jpg,y\na.jpg\nb.jpg,z\n")
    with pytest.raises(DataError) as caught:
        metadata.read_attributes(tmp_path, rows, DataConfig())
    assert caught.value.problems == (
        "families.csv line 4: 1 field, the header has 2",
        "families.csv line 5: b.jpg has another family already",
    )


def test_markup_and_escapes_in_a_name_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("[/] [red]x", ["", ":smile:"], [("[bold]x[/]", "a\x1b[2Jb\nc")])
    console.warn("[/]", ["x\u202ey"])
    out = capsys.readouterr().out
    assert "[/] [red]x" in out
    assert ":smile:" in out
    assert "[bold]x[/]" in out
    assert r"a\x1b[2Jb\nc" in out
    assert out.endswith("warning: [/]\n  x\\u202ey\n")


def test_a_flag_that_is_not_utf8_is_refused(workspace: Path, tmp_path: Path, invoke: Invoke) -> None:
    folder = tmp_path / os.fsdecode(b"\xe9")
    folder.mkdir()
    answer = invoke("doctor", "--experiment", "tiny", "--data", str(folder))
    assert answer.code == 1
    assert answer.err.startswith(f"error: --data {tmp_path}/\\udce9: no UTF-8\nnext: ")
    assert workspace.is_dir()


def test_a_link_to_a_folder_that_is_not_utf8_is_refused(workspace: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xe9")
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ConfigError, match="is not UTF-8"):
        Workspace(workspace, workspace).get_cache_folder(tmp_path / "link", "bytes")


@pytest.mark.parametrize("name", ["=cmd|' C calc'!A0", "x\x1b[31m", "a\nb"])
def test_an_experiment_with_an_unsafe_name_is_refused(name: str, workspace: Path, invoke: Invoke) -> None:
    folder = workspace / "experiments" / name
    folder.mkdir()
    (folder / "config.toml").write_text(name_mutants.TOML)
    answer = invoke("train-folds", "--experiment", name)
    shown = names.escape(str(folder))
    assert (answer.code, answer.err.splitlines()) == (
        1,
        [f"error: the name of the experiment {shown} {names.find_fault(name)}", "next: rename this folder"],
    )
    assert [path.name for path in folder.iterdir()] == ["config.toml"]
    answer = invoke("leaderboard")
    assert answer.code == 0
    assert f"warning: {shown} is left out: its name {names.find_fault(name)}; rename this folder" in answer.out
    assert (workspace / "experiments" / "leaderboard.csv").read_text().count("\n") == 2


@pytest.mark.parametrize("competition", ["-f", "--help", "a b", "", "faces\n"])
def test_a_competition_cannot_be_a_flag(competition: str) -> None:
    with pytest.raises(ConfigError, match="--competition"):
        kaggle.check_arguments(competition, "")
