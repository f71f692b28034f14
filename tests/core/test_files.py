"""Files that exist are complete."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ffdi.core import files as publish
from ffdi.core.errors import ExperimentError


def test_what_is_written_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with publish.open_atomic(path) as beside:
        beside.write_text("content")
        assert not path.exists()
        assert beside.parent == path.parent
    assert [one.name for one in path.parent.iterdir()] == ["file.txt"]
    assert path.read_text() == "content"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), publish.open_atomic(path) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert [one.name for one in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_text() == "old"


def test_the_content_reaches_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        real_fsync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    publish.write_text(tmp_path / "file.txt", "content")
    assert order == ["file", "rename", "folder"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "old").write_text("")
    with pytest.raises(ValueError, match="half"), publish.writing_folder(folder) as beside:
        (beside / "new").write_text("")
        raise ValueError("half")
    assert [one.name for one in tmp_path.rglob("*")] == ["data", "old"]
    with publish.writing_folder(folder) as beside:
        (beside / "new").write_text("")
    assert [one.name for one in tmp_path.rglob("*")] == ["data", "new"]


def test_files_are_replaced_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def contents() -> dict[str, str]:
        return {str(one.relative_to(tmp_path)): one.read_text() for one in tmp_path.rglob("*") if one.is_file()}

    def write(text: str) -> None:
        with publish.publish_together(tmp_path, "b.txt") as new:
            (new / "a").mkdir(exist_ok=True)
            (new / "a" / text).write_text(text)
            (new / "b.txt").write_text(text)
            (new / f"{text}.txt").write_text(text)

    (tmp_path / "other.txt").write_text("stays")
    write("one")
    before = {"a/one": "one", "b.txt": "one", "one.txt": "one", "other.txt": "stays"}
    assert contents() == before
    real, calls = Path.rename, list[int]()

    def rename(self: Path, target: Path) -> Path:
        calls[0] -= 1
        if calls[0] == 0:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    for failing in range(1, 6):
        calls[:] = [failing]
        with pytest.raises(ExperimentError) as caught:
            write("two")
        assert str(caught.value) == (
            f"{tmp_path} cannot be written: Input/output error\n"
            "next: free the disk or name another place; what stood there is as it was"
        )
        assert contents() == before
    monkeypatch.undo()
    write("two")
    assert contents() == {"a/two": "two", "b.txt": "two", "one.txt": "one", "two.txt": "two", "other.txt": "stays"}


def test_what_a_killed_writer_moved_away_is_put_back(tmp_path: Path) -> None:
    beside = tmp_path / ".b.txt.123.tmp"
    for path, text in {"old/b.txt": "old", "old/a/1": "old", "new/c.txt": "new"}.items():
        (beside / path).parent.mkdir(parents=True, exist_ok=True)
        (beside / path).write_text(text)
    (tmp_path / "b.txt").write_text("new")
    publish.remove_leftovers(tmp_path)
    found = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"a/1": "old", "b.txt": "old"}


def files(folder: Path) -> dict[str, str]:
    """Every file, folder and link below a folder; of a file what it says, of a link where it leads."""
    said = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        said[name] = f"-> {path.readlink()}" if path.is_symlink() else path.read_text() if path.is_file() else "/"
    return said


def left(folder: Path, contents: dict[str, str]) -> Path:
    """What a killed writer of b.csv and b.json has left beside them."""
    beside = folder / ".b.csv.123.tmp"
    for name in ("old", "new"):
        (beside / name).mkdir(parents=True)
    for name, text in contents.items():
        (beside / name).parent.mkdir(parents=True, exist_ok=True)
        (beside / name).write_text(text)
    return beside


NAMES = ("b.csv", "b.json")


def test_in_a_folder_of_others_only_what_was_written_together_is_put_back(tmp_path: Path) -> None:
    left(tmp_path, {"old/b.csv": "old", "old/b.json": "old", "new/.b.csv.123.tmp": "half"})
    (tmp_path / "b.csv").write_text("new")
    (tmp_path / ".c.csv.1.tmp").write_text("")
    publish.remove_leftovers_beside(tmp_path / "b.csv", NAMES)
    assert files(tmp_path) == {"b.csv": "old", "b.json": "old", ".c.csv.1.tmp": ""}


PLANTED: dict[str, Callable[[Path, Path], object]] = {
    "another file": lambda beside, _: (beside / "old" / "thesis.txt").write_text("planted"),
    "a file beside": lambda beside, _: (beside / "b.csv").write_text("planted"),
    "a folder": lambda beside, _: (beside / "old" / "b.csv").mkdir(),
    "a link": lambda beside, foreign: (beside / "old" / "b.csv").symlink_to(foreign / "kept.txt"),
    "a link to a folder": lambda beside, foreign: (beside / "new" / "more").symlink_to(foreign),
    "a link in place of old": lambda beside, foreign: (
        (beside / "old").rmdir(),
        (beside / "old").symlink_to(foreign),
    ),
}


@pytest.mark.parametrize("what", PLANTED)
def test_in_a_folder_of_others_what_no_writer_leaves_stays(what: str, tmp_path: Path) -> None:
    shared, foreign = tmp_path / "shared", tmp_path / "foreign"
    for path in (shared / "thesis.txt", foreign / "kept.txt", foreign / "b.csv"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    PLANTED[what](left(shared, {}), foreign)
    before = files(tmp_path)
    publish.remove_leftovers_beside(shared / "b.csv", NAMES)
    assert files(tmp_path) == before


def test_in_a_folder_of_others_what_they_own_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(tmp_path, {"old/b.csv": "planted"})
    before = files(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1, raising=False)
    publish.remove_leftovers_beside(tmp_path / "b.csv", NAMES)
    assert files(tmp_path) == before


@pytest.mark.parametrize("leads", ["file", "folder", "nowhere"])
@pytest.mark.parametrize("write", ["writing", "together", "check_writable", "create"])
def test_a_link_in_place_of_a_temporary_file_is_never_written_through(write: str, leads: str, tmp_path: Path) -> None:
    own, foreign = tmp_path / "own", tmp_path / "foreign"
    for path in (foreign / "file", foreign / "folder" / "old" / "a.csv"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    own.mkdir()
    link = own / f".a.csv.{os.getpid()}.tmp"
    link.symlink_to(foreign / leads)
    before = files(foreign)
    if write == "writing":
        publish.write_text(own / "a.csv", "text")
    elif write == "together":
        with publish.publish_together(own, "a.csv") as new:
            (new / "a.csv").write_text("text")
    elif write == "check_writable":
        publish.check_writable(own / "a.csv")
    else:
        publish.create(link, b"text")
    assert files(foreign) == before
    written = {"create": {link.name: "text"}, "check_writable": {link.name: f"-> {foreign / leads}"}}
    assert files(own) == written.get(write, {"a.csv": "text"})


def test_a_folder_that_holds_a_link_is_not_swept(tmp_path: Path) -> None:
    own, foreign = tmp_path / "own", tmp_path / "foreign"
    (own / ".b.csv.1.tmp").mkdir(parents=True)
    foreign.mkdir()
    (foreign / "b.csv").write_text("mine")
    (own / ".b.csv.1.tmp" / "old").symlink_to(foreign)
    before = files(tmp_path)
    with pytest.raises(ExperimentError) as caught:
        publish.remove_leftovers(own)
    path = own / ".b.csv.1.tmp" / "old"
    assert str(caught.value) == (
        f"{path} is a link to {foreign}, and ffdi follows no links here\n"
        f"next: put what it leads to in its place, or remove it: rm {path}"
    )
    assert files(tmp_path) == before


def test_a_full_disk_is_said_and_the_old_file_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExperimentError) as caught:
        publish.write_text(path, "new")
    assert str(caught.value) == (
        f"{path} cannot be written: No space left on device\n"
        "next: free the disk or name another place; what stood there is as it was"
    )
    assert [one.name for one in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_text() == "old"


def test_a_place_is_tried_without_leaving_anything(tmp_path: Path) -> None:
    publish.check_writable(tmp_path / "file.txt")
    assert list(tmp_path.iterdir()) == []


def test_what_safetensors_leaves_when_it_is_killed_is_removed(tmp_path: Path) -> None:
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / ".tmpTjjxj3").write_bytes(b"half")
    (tmp_path / "fold_0" / "weights.safetensors").write_bytes(b"whole")
    publish.remove_leftovers(tmp_path)
    assert [path.name for path in sorted((tmp_path / "fold_0").iterdir())] == ["weights.safetensors"]
