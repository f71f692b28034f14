"""A cache gives what the files give, or nothing: whatever was killed, changed or damaged."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ffdi.config.schema import Config
from ffdi.core.errors import DataError
from ffdi.data.images import cache, decode
from ffdi.data.images.cache import CachedRows, ImageStore
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.inspection import packing
from ffdi.data.inspection.scan_store import ScanStore
from ffdi.data.labels.table import Table
from ffdi.data.loading import loader
from ffdi.data.loading.loader import LoaderConfig
from tests.data.conftest import scan_table

Gallery = Callable[..., Table]
FRAMING = ResizePolicy(16)


def packed(table: Table, folder: Path, findings: ScanStore, resize_policy: ResizePolicy | None = None) -> Table:
    """The table, all of it packed."""
    store = ImageStore(folder, resize_policy)
    assert sum(packing.fill_cache(store, [store.attach(table)], findings, 2)) == len(
        cache.list_missing_rows(store.attach(table))
    )
    return ImageStore(folder, resize_policy).attach(table)


def rows(table: Table) -> CachedRows:
    found = cache.get_cached_rows(table)
    assert found is not None
    return found


def numbers(table: Table) -> list[int]:
    return rows(table).number.tolist()


def test_packed_images_are_the_files(gallery: Gallery, findings: ScanStore, tmp_path: Path) -> None:
    table = gallery(7)
    cached = packed(table, tmp_path / "cache", findings)
    assert numbers(cached) == list(range(7))
    for row in range(7):
        assert rows(cached).read_file(row) == table.path(row).read_bytes()
        assert np.array_equal(cache.read_pixels(cached, row), decode.read_image(table.path(row)))
        assert np.array_equal(cache.read_resized(cached, row, FRAMING), FRAMING.load(table.path(row)))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux lists the maps of a process")
def test_processes_share_the_pages_of_a_cache(gallery: Gallery, findings: ScanStore, tmp_path: Path) -> None:
    cached = packed(gallery(3), tmp_path / "cache", findings, FRAMING)
    pack = rows(cached).store.pack_path
    modes = {line.split()[1] for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(pack))}
    assert modes == {"r--s"}  # read-only and shared, not a private copy


def test_packed_pixels_are_the_resized_files(gallery: Gallery, findings: ScanStore, tmp_path: Path) -> None:
    table = gallery(3)
    cached = packed(table, tmp_path / "cache", findings, FRAMING)
    assert (tmp_path / "cache" / "pack").stat().st_size == 3 * 16 * 16 * 3
    for row in range(3):
        assert np.array_equal(rows(cached).read_pixels(row), FRAMING.load(table.path(row)))
        assert np.array_equal(cache.read_resized(cached, row, FRAMING), FRAMING.load(table.path(row)))
        assert np.array_equal(cache.read_resized(cached, row, ResizePolicy(8)), ResizePolicy(8).load(table.path(row)))
        assert np.array_equal(cache.read_pixels(cached, row), decode.read_image(table.path(row)))


def test_nothing_is_read_from_files_that_are_packed(
    gallery: Gallery, findings: ScanStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = gallery(4)
    expected = scan_table(table, findings)
    cached = packed(table, tmp_path / "cache", findings)
    pixels = decode.read_image(table.path(2))
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    found = scan_table(cached, findings)
    for column in ("sha256", "size", "format", "mode", "width", "height", "quantization", "fingerprint"):
        assert np.array_equal(getattr(found, column), getattr(expected, column))
    assert np.array_equal(cache.read_pixels(cached, 2), pixels)


def test_copies_are_packed_once(gallery: Gallery, findings: ScanStore, tmp_path: Path) -> None:
    table = gallery(5, same=True)
    cached = packed(table, tmp_path / "cache", findings)
    assert numbers(cached) == list(range(5))
    assert (tmp_path / "cache" / "pack").stat().st_size == table.path(0).stat().st_size


def test_selected_rows_keep_their_images(gallery: Gallery, findings: ScanStore, tmp_path: Path) -> None:
    table = gallery(6)
    some = packed(table, tmp_path / "cache", findings).take(np.array([5, 0, 3]))
    assert numbers(some) == [5, 0, 3]
    assert np.array_equal(cache.read_pixels(some, 1), decode.read_image(table.path(0)))


@pytest.mark.parametrize("same_size", [True, False])
def test_a_changed_file_is_read_from_the_data_folder(
    gallery: Gallery, findings: ScanStore, tmp_path: Path, same_size: bool
) -> None:
    table = gallery(3)
    packed(table, tmp_path / "cache", findings)
    other = cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    times = table.path(1).stat()
    if same_size:
        other = other.ljust(times.st_size, b"\0")
    table.path(1).write_bytes(other)
    os.utime(table.path(1), ns=(times.st_atime_ns, times.st_mtime_ns))  # but not that of its entry
    cached = ImageStore(tmp_path / "cache").attach(table)
    assert numbers(cached) == [0, -1, 2]
    assert not cache.read_pixels(cached, 1).any()
    assert np.array_equal(scan_table(cached, findings).sha256, scan_table(table, findings).sha256)
    again = packed(table, tmp_path / "cache", findings)
    assert numbers(again) == [0, 3, 2]
    assert not cache.read_pixels(again, 1).any()


def test_a_missing_or_damaged_file_is_not_packed(gallery: Gallery, findings: ScanStore, tmp_path: Path) -> None:
    table = gallery(4)
    table.path(0).unlink()
    table.path(2).write_bytes(b"no image")
    cached = packed(table, tmp_path / "cache", findings)
    assert numbers(cached) == [-1, 0, -1, 1]
    assert scan_table(cached, findings).list_problems() == scan_table(table, findings).list_problems()


@pytest.mark.parametrize("resize_policy", [None, FRAMING])
@pytest.mark.parametrize("file", ["index", "pack"])
def test_a_killed_writer_leaves_a_cache_that_can_be_filled(
    gallery: Gallery, findings: ScanStore, tmp_path: Path, file: str, resize_policy: ResizePolicy | None
) -> None:
    table, whole = gallery(5), tmp_path / "whole"
    packed(table, whole, findings, resize_policy)
    length = (whole / file).stat().st_size
    for cut in {*range(0, length, max(1, length // 23)), length - 1}:
        folder = tmp_path / f"cut-{cut}"
        shutil.copytree(whole, folder)
        if file == "index":
            os.truncate(folder / "index", cut)
            before = numbers(ImageStore(folder, resize_policy).attach(table))
            assert before == [row if row < cut // cache.RECORD.itemsize else -1 for row in range(5)]
        else:  # what was packed without its record
            os.truncate(folder / "index", 3 * cache.RECORD.itemsize)
            os.truncate(
                folder / "pack", max(cut, int(ImageStore(folder, resize_policy).records["offset"][2]) + length // 3)
            )
        after = packed(table, folder, findings, resize_policy)
        assert numbers(after) == list(range(5))
        for row in range(5):
            assert np.array_equal(cache.read_resized(after, row, FRAMING), FRAMING.load(table.path(row)))


def test_a_changed_bit_is_seen(gallery: Gallery, findings: ScanStore, tmp_path: Path) -> None:
    table = gallery(2)
    packed(table, tmp_path / "cache", findings)
    pack, index = (tmp_path / "cache" / name for name in ("pack", "index"))
    sound = {path: path.read_bytes() for path in (pack, index)}
    for place in range(0, len(sound[index]), 7):
        index.write_bytes(_flipped(sound[index], place))
        cached = ImageStore(tmp_path / "cache").attach(table)
        assert numbers(cached) == [-1 if row == place // cache.RECORD.itemsize else row for row in range(2)]
    index.write_bytes(sound[index])
    for place in range(0, len(sound[pack]), 101):
        pack.write_bytes(_flipped(sound[pack], place))
        cached = ImageStore(tmp_path / "cache").attach(table)
        row = int(place >= rows(cached).store.records["offset"][1])
        start = 0 if row == 0 else table.path(0).stat().st_size
        with pytest.raises(DataError) as error:
            cache.read_pixels(cached, row)
        assert str(error.value) == (f"{pack} is damaged at byte {start}\nnext: write it again: invoke cache --restart")
        assert np.array_equal(cache.read_pixels(cached, 1 - row), decode.read_image(table.path(1 - row)))


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_cache_that_was_made_again_is_not_mistaken_for_the_old_one(
    gallery: Gallery, findings: ScanStore, tmp_path: Path
) -> None:
    table = gallery(3)
    cached = packed(table, tmp_path / "cache", findings)
    sent = pickle.dumps(cached)
    assert np.array_equal(cache.read_pixels(pickle.loads(sent), 2), decode.read_image(table.path(2)))
    before = cache.read_pixels(cached, 2)
    cache.discard(tmp_path / "cache")
    packed(table.take(np.array([2, 1, 0])), tmp_path / "cache", findings)
    assert np.array_equal(cache.read_pixels(cached, 2), before)  # it has the old one open
    with pytest.raises(DataError) as error:
        pickle.loads(sent)
    assert str(error.value) == (
        f"{tmp_path / 'cache'} was made again while it was read\nnext: run the same command again"
    )


@pytest.mark.parametrize(("workers", "threads"), [(0, 1), (0, 3), (2, 1)])
def test_batches_are_the_same_from_cache_and_files(
    gallery: Gallery, findings: ScanStore, tmp_path: Path, workers: int, threads: int
) -> None:
    table = gallery(12)
    config = Config.model_validate(
        {
            "model": {"size": 32},
            "augment": {"recipe": "strong"},
            "pseudo_fakes": {"fraction": 0.25, "methods": ["self_blend", "face_swap"]},
            "train": {"batch_size": 4},
        }
    )
    pixels = config.model_copy(update={"cache": config.cache.model_copy(update={"pixels": True})})
    for settings, resize_policy in ((config, None), (pixels, ResizePolicy(32))):
        cached = packed(table, tmp_path / str(resize_policy), findings, resize_policy)
        one, other = (
            list(
                loader.make_train_loader(
                    some, settings, fold=0, loader_config=LoaderConfig(workers, threads)
                ).iterate_epoch(1)
            )
            for some in (table, cached)
        )
        assert len(one) == len(other) > 2
        for first, second in zip(one, other, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_kinds_of_caches_lie_in_folders_of_their_own() -> None:
    kinds = {cache.get_folder_name(one) for one in (None, ResizePolicy(16), ResizePolicy(32), ResizePolicy(16, "pad"))}
    assert len(kinds) == 4
    assert "bytes-3" in kinds
