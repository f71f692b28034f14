"""Paths below a folder go through no link."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffdi.core import links
from ffdi.core.errors import ExperimentError


@pytest.mark.parametrize("name", ["", ".", "..", "/a", "a/../../b", "../a"])
def test_a_name_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        links.join(tmp_path, name)
    assert str(caught.value) == (
        f"{tmp_path} names a file outside of itself: {name}\nnext: do not use this folder: its files were manipulated"
    )


def test_a_path_without_links_is_accepted(tmp_path: Path) -> None:
    assert links.join(tmp_path, "golden/00.jpg") == tmp_path / "golden" / "00.jpg"
    assert links.join(tmp_path, "golden", "00.jpg") == tmp_path / "golden" / "00.jpg"
    assert links.join(tmp_path, "a\0b") == tmp_path / "a\0b"  # an error comes when the file is opened


@pytest.mark.parametrize("leads", ["folder", "file", "nowhere"])
@pytest.mark.parametrize("names", [("link",), ("link", "a"), ("link/a",), ("real", "link"), ("real/link/a/b",)])
def test_a_part_that_is_a_link_is_refused(names: tuple[str, ...], leads: str, tmp_path: Path) -> None:
    own, foreign = tmp_path / "own", tmp_path / "foreign"
    (own / "real").mkdir(parents=True)
    (foreign / "folder").mkdir(parents=True)
    (foreign / "file").write_text("")
    for folder in (own, own / "real"):
        (folder / "link").symlink_to(foreign / leads)
    link = own / ("real/link" if "real" in names[0] else "link")
    with pytest.raises(ExperimentError) as caught:
        links.join(own, *names)
    assert str(caught.value) == (
        f"{link} is a link to {foreign / leads}, and ffdi follows no links here\n"
        f"next: replace the link by its target, or remove it: rm {link}"
    )
    with pytest.raises(ExperimentError, match="is a link to"):
        links.refuse_links_below(own)
    with pytest.raises(ExperimentError, match="is a link to"):
        links.glob(link.parent, "l*")


def test_a_folder_that_is_a_link_itself_is_refused_unless_it_is_a_root(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to("folder")
    with pytest.raises(ExperimentError, match="is a link to folder,"):
        links.join(link, "a")
    assert links.join(links.resolve_root(link), "a") == tmp_path / "folder" / "a"
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(ExperimentError, match="circle is a link to itself"):
        links.resolve_root(tmp_path / "circle")


def test_terminal_escapes_are_escaped(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(b"\xff\x1b[2J".decode(errors="surrogateescape"))
    with pytest.raises(ExperimentError) as caught:
        links.refuse_link(link)
    assert str(caught.value).splitlines()[0] == (f"{link} is a link to \\udcff\\x1b[2J, and ffdi follows no links here")


def test_links_are_found_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for link in ("z", "a/b/file"):
        (tmp_path / link).symlink_to("nowhere")
    (tmp_path / "a" / "folder").symlink_to(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in links.find_links(tmp_path)] == [
        "z",
        "a/folder",
        "a/b/file",
    ]
