"""Files that exist are complete."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ffdi.core import files as publish
from ffdi.core.errors import ExperimentError


def test_a_file_appears_when_its_writer_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with publish.open_atomic(path) as temporary:
        temporary.write_text("content")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert [one.name for one in path.parent.iterdir()] == ["file.txt"]
    assert path.read_text() == "content"


def test_an_error_keeps_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), publish.open_atomic(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert [one.name for one in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_text() == "old"


def test_the_content_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_folder_is_replaced_atomically(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "old").write_text("")
    with pytest.raises(ValueError, match="half"), publish.publish_folder(folder) as temporary:
        (temporary / "new").write_text("")
        raise ValueError("half")
    assert [one.name for one in tmp_path.rglob("*")] == ["data", "old"]
    with publish.publish_folder(folder) as temporary:
        (temporary / "new").write_text("")
    assert [one.name for one in tmp_path.rglob("*")] == ["data", "new"]


def test_files_are_replaced_together_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
            "next: free the disk or name another path; the file of that name has not changed"
        )
        assert contents() == before
    monkeypatch.undo()
    write("two")
    assert contents() == {"a/two": "two", "b.txt": "two", "one.txt": "one", "two.txt": "two", "other.txt": "stays"}


def test_old_files_of_a_killed_writer_are_moved_back(tmp_path: Path) -> None:
    temporary = tmp_path / ".b.txt.123.tmp"
    for path, text in {"old/b.txt": "old", "old/a/1": "old", "new/c.txt": "new"}.items():
        (temporary / path).parent.mkdir(parents=True, exist_ok=True)
        (temporary / path).write_text(text)
    (tmp_path / "b.txt").write_text("new")
    publish.remove_leftovers(tmp_path)
    found = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"a/1": "old", "b.txt": "old"}


def test_files_of_a_writer_that_was_killed_at_its_end_stay_new(tmp_path: Path) -> None:
    temporary = tmp_path / ".b.txt.123.tmp"
    for folder in ("new", "old"):
        (temporary / folder).mkdir(parents=True)
    (temporary / "old" / "b.txt").write_text("old")
    (tmp_path / "b.txt").write_text("new")
    publish.remove_leftovers(tmp_path)
    assert files(tmp_path) == {"b.txt": "new"}


def test_a_leftover_of_the_same_pid_is_removed(tmp_path: Path) -> None:
    temporary = tmp_path / f".b.txt.{os.getpid()}.tmp"
    for path in ("old/b.txt", "new/c.txt"):
        (temporary / path).parent.mkdir(parents=True)
        (temporary / path).write_text("old")
    with publish.publish_together(tmp_path, "b.txt") as new:
        assert files(new) == {}
        (new / "c.txt").write_text("new")
    assert files(tmp_path) == {"b.txt": "old", "c.txt": "new"}


def files(folder: Path) -> dict[str, str]:
    """Every file, folder and link below a folder; the content of a file, the target of a link."""
    content = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        content[name] = f"-> {path.readlink()}" if path.is_symlink() else path.read_text() if path.is_file() else "/"
    return content


def left(folder: Path, contents: dict[str, str]) -> Path:
    """The leftovers of a killed writer of b.csv and b.json."""
    temporary = folder / ".b.csv.123.tmp"
    for name in ("old", "new"):
        (temporary / name).mkdir(parents=True)
    for name, text in contents.items():
        (temporary / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).write_text(text)
    return temporary


NAMES = ("b.csv", "b.json")


def test_in_a_shared_folder_only_the_listed_files_are_moved_back(tmp_path: Path) -> None:
    left(tmp_path, {"old/b.csv": "old", "old/b.json": "old", "new/.b.csv.123.tmp": "half"})
    (tmp_path / "b.csv").write_text("new")
    (tmp_path / ".c.csv.1.tmp").write_text("")
    publish.remove_leftovers_next_to(tmp_path / "b.csv", NAMES)
    assert files(tmp_path) == {"b.csv": "old", "b.json": "old", ".c.csv.1.tmp": ""}


PLANTED: dict[str, Callable[[Path, Path], object]] = {
    "another file": lambda temporary, _: (temporary / "old" / "thesis.txt").write_text("planted"),
    "a file outside new and old": lambda temporary, _: (temporary / "b.csv").write_text("planted"),
    "a folder": lambda temporary, _: (temporary / "old" / "b.csv").mkdir(),
    "a link": lambda temporary, foreign: (temporary / "old" / "b.csv").symlink_to(foreign / "kept.txt"),
    "a link to a folder": lambda temporary, foreign: (temporary / "new" / "more").symlink_to(foreign),
    "a link in place of old": lambda temporary, foreign: (
        (temporary / "old").rmdir(),
        (temporary / "old").symlink_to(foreign),
    ),
}


@pytest.mark.parametrize("what", PLANTED)
def test_in_a_shared_folder_foreign_files_stay(what: str, tmp_path: Path) -> None:
    shared, foreign = tmp_path / "shared", tmp_path / "foreign"
    for path in (shared / "thesis.txt", foreign / "kept.txt", foreign / "b.csv"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    PLANTED[what](left(shared, {}), foreign)
    before = files(tmp_path)
    publish.remove_leftovers_next_to(shared / "b.csv", NAMES)
    assert files(tmp_path) == before


def test_in_a_shared_folder_files_of_other_users_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(tmp_path, {"old/b.csv": "planted"})
    before = files(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1, raising=False)
    publish.remove_leftovers_next_to(tmp_path / "b.csv", NAMES)
    assert files(tmp_path) == before


@pytest.mark.parametrize("leads", ["file", "folder", "nowhere"])
@pytest.mark.parametrize("write", ["writing", "together", "check_writable", "create"])
def test_no_file_is_written_through_a_link(write: str, leads: str, tmp_path: Path) -> None:
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


def test_a_folder_with_a_link_is_not_cleaned(tmp_path: Path) -> None:
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
        f"next: replace the link by its target, or remove it: rm {path}"
    )
    assert files(tmp_path) == before


def test_a_full_disk_is_an_error_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExperimentError) as caught:
        publish.write_text(path, "new")
    assert str(caught.value) == (
        f"{path} cannot be written: No space left on device\n"
        "next: free the disk or name another path; the file of that name has not changed"
    )
    assert [one.name for one in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_text() == "old"


def test_a_check_of_a_path_leaves_no_file(tmp_path: Path) -> None:
    publish.check_writable(tmp_path / "file.txt")
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_of_safetensors_are_removed(tmp_path: Path) -> None:
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / ".tmpTjjxj3").write_bytes(b"half")
    (tmp_path / "fold_0" / "weights.safetensors").write_bytes(b"whole")
    publish.remove_leftovers(tmp_path)
    assert [path.name for path in sorted((tmp_path / "fold_0").iterdir())] == ["weights.safetensors"]
