from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from ffdi.core.errors import ExperimentError
from ffdi.data.inspection import scan, scan_store
from ffdi.data.inspection.scan_store import ImageInfo, ScanStore
from ffdi.data.labels.table import Table
from tests.data.conftest import scan_table

Gallery = Callable[..., Table]


def test_every_image_is_described_in_the_tables_order(gallery: Gallery, findings: ScanStore) -> None:
    table = gallery(5)
    table.path(3).write_bytes(cv2.imencode(".jpg", np.full((20, 30), 128, np.uint8))[1].tobytes())
    result = scan_table(table, findings)
    files = [table.path(row).read_bytes() for row in range(5)]
    assert [row.tobytes() for row in result.sha256] == [hashlib.sha256(content).digest() for content in files]
    assert result.size.tolist() == [len(content) for content in files]
    assert result.format.tolist() == ["PNG", "PNG", "PNG", "JPEG", "PNG"]
    assert result.mode.tolist() == ["RGB", "RGB", "RGB", "L", "RGB"]
    assert (result.width[3], result.height[3], result.brightness[3]) == (30, 20, 128)
    assert result.brightness[0] == pytest.approx(cv2.imread(str(table.path(0))).mean(), abs=5)
    assert result.usable.all()


def test_more_images_than_one_helping_are_all_examined(gallery: Gallery, findings: ScanStore) -> None:
    many = gallery(2).take(np.arange(scan.AT_ONCE + 500) % 2)
    assert len(np.unique(scan_table(many, findings).sha256[::2], axis=0)) == 1


def test_every_image_that_cannot_be_used_is_listed(gallery: Gallery, findings: ScanStore) -> None:
    table = gallery(6)
    table.path(1).write_bytes(b"")
    table.path(2).unlink()
    table.path(3).write_bytes(b"GIF89a" + bytes(40))
    table.path(4).write_bytes(table.path(4).read_bytes()[:-20])
    expected = [
        f"{table.path(1)} is empty",
        f"{table.path(2)} cannot be read: No such file or directory",
        f"{table.path(3)} is not an image that ffdi reads (JPEG, PNG, BMP, WEBP, TIFF)",
        f"{table.path(4)} is truncated or damaged: {table.path(4).stat().st_size} bytes cannot be decoded",
    ]
    for _ in ("decoded", "remembered"):
        result = scan_table(table, findings)
        assert result.list_problems() == expected
        assert result.usable.tolist() == [True, False, False, False, False, True]


def test_known_bytes_are_not_decoded_again(
    gallery: Gallery, findings: ScanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = gallery(4)
    before = scan_table(table, findings)
    table.path(0).rename(table.path(0).with_name("elsewhere.png"))
    moved = replace(table, img_name=np.array(["elsewhere.png", *table.img_name[1:].tolist()]))
    decoded = []
    monkeypatch.setattr(scan, "inspect_image", lambda content: decoded.append(content))
    after = scan_table(moved, findings)
    assert decoded == []
    for column in ("sha256", "size", "format", "mode", "width", "height", "quantization", "fingerprint"):
        assert np.array_equal(getattr(before, column), getattr(after, column))


def test_results_before_an_interruption_are_saved(gallery: Gallery, tmp_path: Path) -> None:
    table = gallery(3).take(np.arange(scan.AT_ONCE + 3) % 3)
    store = ScanStore(tmp_path / "f.sqlite")
    looks = scan.scan_images(table, store, 2)
    for _ in range(scan.AT_ONCE + 1):
        next(looks)
    looks.close()
    store.close()
    again = ScanStore(tmp_path / "f.sqlite")
    assert not any(seen.fresh for seen in scan.scan_images(table, again, 2))
    again.close()


# --- the store -----------------------------------------------------------------------------------------------------


def test_findings_and_pairs_come_back(findings: ScanStore) -> None:
    found = ImageInfo("", "JPEG", "RGB", 3, 4, b"\0\1")
    findings.save_images([(b"a" * 32, found), (b"b" * 32, ImageInfo(fault="is empty"))])
    findings.save_pairs([(b"b", b"a", "near"), (b"a", b"c", "")])
    assert findings.get_image(b"a" * 32) == found
    assert findings.get_image(b"b" * 32) == ImageInfo(fault="is empty")
    assert findings.get_image(b"c" * 32) is None
    assert (findings.get_pair(b"a", b"b"), findings.get_pair(b"c", b"a"), findings.get_pair(b"b", b"c")) == (
        "near",
        "",
        None,
    )


def test_a_store_of_another_version_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.sqlite"
    store = ScanStore(path)
    store.save_images([(b"a", ImageInfo(fault="is empty"))])
    store.close()
    monkeypatch.setattr(scan_store, "VERSION", scan_store.VERSION + 1)
    store = ScanStore(path)
    assert store.get_image(b"a") is None
    store.save_images([(b"a", ImageInfo(fault="is new"))])
    store.close()
    assert ScanStore(path).get_image(b"a") == ImageInfo(fault="is new")


def test_two_may_use_one_store(tmp_path: Path) -> None:
    one, two = ScanStore(tmp_path / "f.sqlite"), ScanStore(tmp_path / "f.sqlite")
    one.save_images([(b"a", ImageInfo(fault="is empty"))])
    two.save_images([(b"a", ImageInfo(fault="is empty")), (b"b", ImageInfo(fault="is big"))])
    assert (two.get_image(b"a"), two.get_image(b"b")) == (ImageInfo(fault="is empty"), ImageInfo(fault="is big"))
    assert one.get_image(b"b") is None  # it was opened before and would decode it again
    assert ScanStore(tmp_path / "f.sqlite").get_image(b"b") == ImageInfo(fault="is big")


@pytest.mark.parametrize("content", [b"this is not a database, but long enough to look like one" * 20, b""])
def test_a_damaged_store_is_refused_and_an_empty_one_is_filled(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.sqlite"
    path.write_bytes(content)
    if not content:
        assert ScanStore(path).get_image(b"a") is None
        return
    with pytest.raises(ExperimentError) as caught:
        ScanStore(path)
    assert str(caught.value) == (
        f"{path}, the store of scan results, cannot be used: file is not a database\n"
        f"next: free some disk space; if the file is damaged, remove it, it will be made again: rm {path}"
    )


def test_no_changed_bit_of_the_store_changes_a_result(tmp_path: Path) -> None:
    path, rng = tmp_path / "f.sqlite", np.random.default_rng(0)
    images = {rng.bytes(32): ImageInfo("", "JPEG", "RGB", number, 7, rng.bytes(16)) for number in range(40)}
    first, *others = images
    pairs = {(first, other): kind for other, kind in zip(others, ["exact", "near", ""] * 13, strict=True)}
    store = ScanStore(path)
    store.save_images(images.items())
    store.save_pairs((*pair, kind) for pair, kind in pairs.items())
    store.close()
    content, outcomes = path.read_bytes(), Counter[str]()
    for _ in range(600):
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            store = ScanStore(path)
            found = [(store.get_image(key), expected) for key, expected in images.items()]
            found += [(store.get_pair(*pair), kind) for pair, kind in pairs.items()]
            store.close()
        except ExperimentError:
            outcomes["refused"] += 1
            continue
        assert all(one is None or one == expected for one, expected in found)
        outcomes["forgotten" if any(one is None for one, _ in found) else "whole"] += 1
    assert min(outcomes["refused"], outcomes["forgotten"], outcomes["whole"]) > 0


def test_a_lost_result_is_saved_again(tmp_path: Path) -> None:
    store = ScanStore(tmp_path / "f.sqlite")
    store.save_images([(b"a", ImageInfo("is empty"))])
    sqlite3.connect(tmp_path / "f.sqlite", isolation_level=None).execute("UPDATE image SET fault = ''")
    assert store.get_image(b"a") is None
    store.save_images([(b"a", ImageInfo("is empty"))])
    assert store.get_image(b"a") == ImageInfo("is empty")
    store.close()


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError) as caught:
        ScanStore(tmp_path / "file" / "f.sqlite")
    assert str(caught.value).startswith(f"{tmp_path}/file/f.sqlite, the store of scan results, cannot be used")


def test_the_store_is_a_plain_database(tmp_path: Path) -> None:
    ScanStore(tmp_path / "f.sqlite").close()
    names = sqlite3.connect(tmp_path / "f.sqlite").execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
    assert [name for (name,) in names if not name.startswith("sqlite_")] == ["duplicates", "image", "pair"]
