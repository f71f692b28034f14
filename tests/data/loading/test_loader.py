from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ffdi.config.schema import Config
from ffdi.core import machine
from ffdi.core.errors import DataError, DeviceError
from ffdi.data.images import decode
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.data.loading import augment, loader
from ffdi.data.loading.loader import Batch, Batches, LoaderConfig
from ffdi.data.loading.sampler import SampleKey
from ffdi.synthetic import operations

Gallery = Callable[..., Table]
SIZE = 32
FRAMING = ResizePolicy(SIZE)


def training(
    table: Table,
    *,
    workers: int = 0,
    threads: int = 1,
    batch_size: int = 4,
    recipe: str = "postprocess",
    device: bool = False,
) -> Batches:
    config = Config(
        seed=3,
        model={"size": SIZE},
        augment={"recipe": recipe, "device": device},
        train={"batch_size": batch_size, "sampling": "all"},
    )
    return loader.make_train_loader(table, config, fold=1, loader_config=LoaderConfig(workers, threads))


def reading(table: Table, *, workers: int = 0, batch_size: int = 4) -> Batches:
    return loader.make_eval_loader(table, FRAMING, batch_size=batch_size, loader_config=LoaderConfig(workers))


def together(batches: Iterator[Batch]) -> list[np.ndarray]:
    return [torch.cat(part).numpy() for part in zip(*(batch[:3] for batch in batches), strict=True)]


def distinct(batch: Batch) -> set[bytes]:
    return {image.numpy().tobytes() for image in batch.images}


# --- training ------------------------------------------------------------------------------------------------------


def test_order_and_pixels_do_not_depend_on_the_number_of_workers(gallery: Gallery) -> None:
    table = gallery(16)
    alone, shared = training(table), training(table, workers=2)
    for epoch in range(2):
        for one, other in zip(alone.iterate_epoch(epoch), shared.iterate_epoch(epoch), strict=True):
            assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(("workers", "threads"), [(0, 3), (2, 1), (4, 1)])
def test_steps_for_the_device_do_not_depend_on_the_number_of_workers(
    workers: int, threads: int, gallery: Gallery
) -> None:
    table = gallery(16)
    alone = training(table, device=True)
    shared = training(table, device=True, workers=workers, threads=threads)
    for one, other in zip(alone.iterate_epoch(1), shared.iterate_epoch(1), strict=True):
        assert_close(one, other, rtol=0, atol=0)
        drawn = [augment.Augmentation("postprocess").draw_steps((3, 1, 1, row)) for row in one.index.tolist()]
        assert one.steps is not None
        assert np.array_equal(one.steps.numpy(), operations.pack_steps(drawn))
        assert len(one.steps) == sum(map(len, drawn)) > 0


def test_without_a_device_and_in_scoring_no_steps_remain(gallery: Gallery) -> None:
    table = gallery(4)
    assert [batch.steps for batch in (*training(table).iterate_epoch(0), *reading(table))] == [None, None]


def test_workers_whose_batches_do_not_fit_are_refused(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    table = gallery(16)
    needed = 3 * 2 * 4 * SIZE * SIZE * 3
    monkeypatch.setattr(machine, "read_free_shared_memory", lambda: needed)
    training(table, workers=3)
    monkeypatch.setattr(machine, "read_free_shared_memory", lambda: needed - 1)
    training(table)
    for make in (training, reading):
        with pytest.raises(DeviceError) as caught:
            make(table, workers=3)
        assert str(caught.value) == (
            "3 loader workers would need 0 MB of shared memory for their batches; /dev/shm has 0 MB free\n"
            "next: pass fewer --workers or --workers 0, or start the container with more: docker run --shm-size 4g, "
            "or --ipc=host"
        )
    monkeypatch.undo()
    monkeypatch.setattr(machine, "SHARED_MEMORY", Path("/nowhere"))
    assert machine.read_free_shared_memory() is None


@pytest.mark.parametrize("recipe", ["flips", "postprocess", "strong"])
def test_threads_make_the_same_batches(gallery: Gallery, recipe: str) -> None:
    table = gallery(24)
    alone, shared = training(table, recipe=recipe), training(table, threads=4, recipe=recipe)
    for epoch in range(3):
        for one, other in zip(alone.iterate_epoch(epoch), shared.iterate_epoch(epoch), strict=True):
            assert_close(one, other, rtol=0, atol=0)


def test_threads_name_an_image_that_cannot_be_read(gallery: Gallery) -> None:
    table = gallery(8)
    table.path(5).unlink()
    assert (
        fault(training(table, threads=3).iterate_epoch(0))
        == f"{table.path(5)} cannot be read: No such file or directory"
    )


def test_every_sample_is_drawn_from_its_own_key(gallery: Gallery) -> None:
    table, apply = gallery(16), augment.Augmentation("postprocess")
    batches = training(table, workers=2)
    for epoch in (1, 0):
        for batch in batches.iterate_epoch(epoch):
            for image, index in zip(batch.images.numpy(), batch.index.tolist(), strict=True):
                assert np.array_equal(image, apply(FRAMING.load(table.path(index)), (3, 1, epoch, index)))


def test_two_workers_draw_differently(gallery: Gallery) -> None:
    """The recipe is used before the workers start, so that both of them inherit the state of its random stream."""
    batches = training(gallery(16, same=True), workers=2)
    batches._loader.dataset[SampleKey(0, 0)]
    first, second, third, fourth = (distinct(batch) for batch in batches.iterate_epoch(0))
    assert first != second
    assert third != fourth
    assert len(first | second | third | fourth) > 10


@pytest.mark.parametrize("workers", [0, 2])
def test_two_epochs_draw_differently(gallery: Gallery, workers: int) -> None:
    batches = training(gallery(16, same=True), workers=workers)
    pixels = [{image for batch in batches.iterate_epoch(epoch) for image in distinct(batch)} for epoch in range(2)]
    assert len(pixels[0] - pixels[1]) > 8


def test_every_epoch_has_its_own_reproducible_order(gallery: Gallery) -> None:
    batches = training(gallery(12))
    order = [together(batches.iterate_epoch(epoch))[2].tolist() for epoch in (0, 1, 0)]
    assert sorted(order[0]) == list(range(12))
    assert order[0] != order[1]
    assert order[0] == order[2]


def test_the_global_stream_is_not_touched(gallery: Gallery) -> None:
    table = gallery(4)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    together(training(table).iterate_epoch(0))
    together(iter(reading(table)))
    assert_close(torch.rand(3), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("rows", "batch_size", "sizes"),
    [(8, 4, [4, 4]), (9, 4, [4, 4]), (10, 4, [4, 4, 2]), (1, 4, [1]), (3, 4, [3]), (2, 1, [1, 1]), (5, 2, [2, 2])],
)
def test_a_last_batch_of_one_image_is_left_out(gallery: Gallery, rows: int, batch_size: int, sizes: list[int]) -> None:
    batches = training(gallery(rows), batch_size=batch_size)
    assert [len(batch.index) for batch in batches.iterate_epoch(0)] == sizes
    assert len(batches) == len(sizes)


# --- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_keeps_the_order_and_the_pixels(gallery: Gallery, workers: int) -> None:
    table = gallery(9)
    pixels, target, index = together(iter(reading(table, workers=workers)))
    assert (pixels.dtype, target.dtype, index.dtype) == (np.uint8, np.float32, np.int64)
    assert index.tolist() == list(range(9))
    assert table.target is not None
    assert target.tolist() == table.target.tolist()
    assert np.array_equal(pixels, np.stack([FRAMING.load(table.path(row)) for row in range(9)]))


def test_images_without_labels_have_the_target_nan(gallery: Gallery) -> None:
    table = gallery(2)
    unlabelled = Table("test", table.folder, table.img_name, None, None, table.source)
    assert np.isnan(together(iter(reading(unlabelled)))[1]).all()


def fault(batches: Iterator[Batch]) -> str:
    """The text of the error that ends the batches; the error itself, which holds on to them, is let go."""
    try:
        together(batches)
    except DataError as error:
        return str(error)
    return "no fault"


def damaged(table: Table, row: int) -> str:
    """Cuts an image short; what an error says of it."""
    content = table.path(row).read_bytes()[:-30]
    table.path(row).write_bytes(content)
    return f"{table.path(row)} is truncated or damaged: {len(content)} bytes cannot be decoded"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_named_with_and_without_workers(gallery: Gallery, workers: int) -> None:
    table = gallery(6)
    expected = damaged(table, 4)
    assert fault(iter(reading(table, workers=workers))) == expected
    assert fault(training(table, workers=workers).iterate_epoch(0)) == expected


def test_a_bad_image_leaves_no_workers_behind(gallery: Gallery) -> None:
    table, before = gallery(6), set(active_children())
    damaged(table, 4)
    assert fault(iter(reading(table, workers=2))) != "no fault"
    assert set(active_children()) <= before


# --- workers that die or hang ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "state"), [("killed", "was killed"), ("hanging", "did not answer for 2 s")], ids=["killed", "hanging"]
)
def test_a_dead_or_hanging_worker_is_reported_with_its_images(
    end: str, state: str, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, real = gallery(12), decode.read_image

    def read(path: Path) -> np.ndarray:
        if path == table.path(9):
            if end == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        return real(path)

    monkeypatch.setattr(decode, "read_image", read)
    monkeypatch.setattr(loader, "SECONDS", 2)
    monkeypatch.setattr(loader, "POLL_SECONDS", 1)
    batches, seen = reading(table, workers=1), []
    with pytest.raises(DataError) as caught:
        for batch in batches:
            seen += batch.index.tolist()
    names = table.img_name[len(seen) : len(seen) + 4].tolist()
    assert names
    assert str(caught.value) == (
        f"a loader worker {state} while these images, or those after them, were read\n"
        + "".join(f"  {name}\n" for name in names)
        + "next: pass --workers 0: images are then read one by one, and the error has the name of the bad one; a "
        "worker may also have been killed because the memory was full"
    )


def test_a_worker_without_shared_memory_is_reported(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are "
            "out of shared memory. Please try to raise your shared memory limit."
        )

    monkeypatch.setattr(machine, "read_free_shared_memory", lambda: 64_000_000)
    batches = reading(gallery(4), workers=1)
    monkeypatch.setattr(loader, "next", fail, raising=False)
    with pytest.raises(DeviceError) as caught:
        list(batches)
    assert str(caught.value) == (
        "a loader worker was killed: /dev/shm has 64 MB free; start the container with more: docker run --shm-size 4g, "
        "or --ipc=host\nnext: pass fewer --workers"
    )


PARENT = """
import multiprocessing, sys, time
from pathlib import Path
import numpy as np
from ffdi.data.loading import loader
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.table import Table

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    folder = Path(sys.argv[2])
    table = Table("test", folder, np.array(sys.argv[3:]), None, None, folder)
    batches = iter(loader.make_eval_loader(table, ResizePolicy(32), batch_size=1, loader_config=loader.LoaderConfig(2)))
    next(batches)
    print("reads", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_leave_the_moment_their_parent_is_killed(method: str, gallery: Gallery, tmp_path: Path) -> None:
    table, script = gallery(8), tmp_path / "parent.py"
    script.write_text(PARENT)
    words = [sys.executable, str(script), method, str(table.folder), *table.img_name.tolist()]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "reads\n"
        parent.kill()
        # ends when no process is left that could write to it; after POLL_SECONDS torch would have noticed it
        assert parent.communicate(timeout=loader.POLL_SECONDS - 1)[0] == ""


def test_an_epoch_goes_on_in_its_middle(gallery: Gallery) -> None:
    batches = training(gallery(12), workers=2)
    whole = [batch.index.tolist() for batch in batches.iterate_epoch(1)]
    assert [batch.index.tolist() for batch in batches.iterate_epoch(1, start=2)] == whole[2:]
    assert list(batches.iterate_epoch(1, start=3)) == []
    assert [batch.index.tolist() for batch in batches.iterate_epoch(1)] == whole


# --- images that a device resizes ----------------------------------------------------------------------------------


def mixed(gallery: Gallery) -> Table:
    """Images of many sizes."""
    table = gallery(16)
    for row in range(len(table)):
        edge = 20 + 3 * row
        pixels = np.random.default_rng(row).integers(0, 256, (edge, 90 - edge, 3), np.uint8)
        table.path(row).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return table


@pytest.mark.parametrize(("workers", "threads"), [(0, 3), (2, 1), (4, 1)])
def test_images_of_many_sizes_do_not_depend_on_the_number_of_workers(
    workers: int, threads: int, gallery: Gallery
) -> None:
    table = mixed(gallery)
    alone = training(table, device=True)
    shared = training(table, device=True, workers=workers, threads=threads)
    for one, other in zip(alone.iterate_epoch(1), shared.iterate_epoch(1), strict=True):
        assert_close(one, other, rtol=0, atol=0)
        assert one.resizes is not None
        held = one.resizes[..., 0].prod(1)
        assert len(one.images) == held.sum()
        for row, pixels in zip(one.index.tolist(), one.images.split(held.tolist()), strict=True):
            whole = decode.read_image(table.path(row))
            given = whole if len(pixels) != SIZE**2 else FRAMING.apply(whole)
            assert np.array_equal(pixels.numpy(), given.reshape(-1, 3))


def test_a_worker_packs_pixels_in_the_memory_that_it_shares(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they would be copied once more."""
    batches = training(mixed(gallery), device=True)
    alone = next(batches.iterate_epoch(0))
    monkeypatch.setattr(loader, "get_worker_info", lambda: "a worker")
    shared = next(batches.iterate_epoch(0))
    assert (alone.images.is_shared(), shared.images.is_shared()) == (False, True)
    assert_close(alone, shared, rtol=0, atol=0)


def test_a_batch_may_end_in_an_error_of_an_image(gallery: Gallery) -> None:
    table = mixed(gallery)
    table.path(9).write_bytes(b"no image")
    assert "is not an image that ffdi reads" in fault(training(table, device=True, workers=2).iterate_epoch(0))


@pytest.mark.parametrize("strategy", ["file_descriptor", "file_system"])
def test_pixels_are_written_in_pieces_and_whole(
    strategy: str, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may write less than it is given; on a Mac, torch shares memory by names."""
    batches = training(mixed(gallery), device=True)
    alone, write, sizes = next(batches.iterate_epoch(0)), os.pwrite, []
    monkeypatch.setattr(
        os, "pwrite", lambda *given: (sizes.append(len(given[1])), write(given[0], given[1][:700], given[2]))[1]
    )
    monkeypatch.setattr(torch.multiprocessing, "get_sharing_strategy", lambda: strategy)
    monkeypatch.setattr(loader, "get_worker_info", lambda: "a worker")
    assert_close(next(batches.iterate_epoch(0)), alone, rtol=0, atol=0)
    assert (len(sizes) > 8) is (strategy == "file_descriptor")


def test_full_shared_memory_is_reported(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    batches = training(mixed(gallery), device=True, workers=1)
    monkeypatch.setattr(os, "pwrite", fail)
    monkeypatch.setattr(machine, "read_free_shared_memory", lambda: 64_000_000)
    with pytest.raises(DeviceError) as caught:
        list(batches.iterate_epoch(0))
    assert str(caught.value) == (
        "a loader worker cannot share a batch: No space left on device; /dev/shm has 64 MB free; start the container "
        "with more: docker run --shm-size 4g, or --ipc=host\nnext: pass fewer --workers"
    )


@pytest.mark.parametrize(
    ("augmentation", "cache", "pixels"),
    [
        ({}, {}, 32**2),
        ({"device": True}, {}, 4 * 32**2),
        ({"device": True}, {"decoded": True}, 32**2),
        ({"device": True}, {"decoded": True, "size": 40}, 40**2),
        ({"device": True}, {"decoded": True, "size": 80}, 4 * 32**2),
        ({"device": True, "crop_size": 16}, {}, 4 * 16**2),
        ({"device": True, "crop_size": 24}, {"decoded": True}, 32**2),
        ({"crop_size": 16}, {"decoded": True}, 16**2),
        ({"crop_size": 16}, {}, 16**2),
    ],
)
def test_shared_memory_is_checked_for_the_largest_batch(
    augmentation: dict[str, object],
    cache: dict[str, object],
    pixels: int,
    gallery: Gallery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = Config.model_validate(
        {"model": {"size": SIZE}, "augment": augmentation, "train": {"batch_size": 8}, "cache": cache}
    )
    assert loader.measure_train_batch(config) == 8 * 3 * pixels
    assert loader.measure_batch(config) == 8 * 3 * max(pixels, SIZE**2)
    table, needed = gallery(8), 2 * 2 * 8 * 3 * pixels
    monkeypatch.setattr(machine, "read_free_shared_memory", lambda: needed)
    loader.make_train_loader(table, config, fold=0, loader_config=LoaderConfig(2))
    monkeypatch.setattr(machine, "read_free_shared_memory", lambda: needed - 1)
    with pytest.raises(DeviceError, match="2 loader workers would need"):
        loader.make_train_loader(table, config, fold=0, loader_config=LoaderConfig(2))
