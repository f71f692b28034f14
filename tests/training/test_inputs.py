"""Decoding on the device gives the images of a loader worker."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ffdi.config.schema import Config
from ffdi.core.errors import DataError, DeviceError
from ffdi.data.images import decode
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.data.loading.dataset import Sample, TrainDataset
from ffdi.data.loading.loader import Batch, LoaderConfig, collate, make_train_loader
from ffdi.data.loading.sampler import SampleKey
from ffdi.synthetic.operations import Step
from ffdi.training import inputs
from ffdi.training.runtime import device

CPU = device.choose_device("cpu", "fp32", 0)
SIZE = 32
ORIENTATION = 0x0112


def jpeg(picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


def picture(height: int, width: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def rotated(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


PLAIN = {
    "plain": jpeg(picture(50, 60)),
    "progressive": jpeg(picture(44, 70, 1), progressive=True),
    "colour at full size": jpeg(picture(33, 90, 2), subsampling=0),
    "upright": jpeg(picture(41, 43, 3), exif=rotated(1)),
    "small": jpeg(picture(20, 24, 4)),
    "of the right size": jpeg(picture(SIZE, SIZE, 5)),
    "large": jpeg(picture(160, 200, 6)),
    "twice as large": jpeg(picture(64, 64, 7)),
}
OTHERS = {
    "rotated": jpeg(picture(50, 60, 8), exif=rotated(6)),
    "grey": jpeg(picture(50, 60, 9, "L")),
    "CMYK": jpeg(picture(50, 60, 10, "CMYK")),
    "no JPEG": png(picture(50, 60, 11)),
    "red, green and blue": jpeg(picture(50, 60, 12), keep_rgb=True),
}
IMAGES = PLAIN | OTHERS


def is_plain(content: bytes) -> bool:
    return decode.is_plain_jpeg(content, decode.read_header(content, "image"))


@pytest.mark.parametrize("name", IMAGES)
def test_only_what_every_decoder_decodes_alike_is_left_to_the_device(name: str) -> None:
    assert is_plain(IMAGES[name]) is (name in PLAIN)


@pytest.mark.parametrize("change", ["Adobe", "two frames", "no segments"])
def test_an_unusual_header_is_left_to_a_worker(change: str) -> None:
    content, header = PLAIN["plain"], decode.read_header(PLAIN["plain"], "image")
    frame = content.index(b"\xff\xc0")
    inserted = {
        "Adobe": b"\xff\xee\x00\x0eAdobe" + bytes(7),
        "two frames": content[frame : frame + 19],
        "no segments": b"\x00",
    }[change]
    assert not decode.is_plain_jpeg(content[:frame] + inserted + content[frame:], header)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    names = []
    for number, (name, content) in enumerate(IMAGES.items()):
        names.append(f"{number} {name}")
        (tmp_path / names[-1]).write_bytes(content)
    return Table("train", tmp_path, np.array(names), np.arange(len(names)) % 2, None, tmp_path / "label.txt")


def dataset(
    table: Table, decode: str, resize: str = "squash", recipe: str = "strong", **augmentation: object
) -> TrainDataset:
    config = Config(
        model={"size": SIZE, "resize": resize},  # type: ignore[arg-type]
        augment={"recipe": recipe, "device": True, "decode": decode, **augmentation},  # type: ignore[arg-type]
        pseudo_fakes={"fraction": 0.2},  # type: ignore[arg-type]
    )
    return TrainDataset(table, config, fold=0)


def samples(made: TrainDataset, epoch: int = 0, fakes: bool = False) -> list[Sample]:
    keys = [SampleKey(epoch, row, fakes and row == 0) for row in range(len(made.table))]
    found = [made[key] for key in keys]
    assert all(isinstance(one, Sample) for one in found)
    return found  # type: ignore[return-value]


def finished(some: list[Sample]) -> np.ndarray:
    batch = collate(some)
    assert isinstance(batch, Batch)
    return inputs.make_images(batch._replace(steps=None), CPU).numpy()


@pytest.mark.parametrize("augmentation", [{}, {"crop_size": 32}], ids=["whole", "crop"])
@pytest.mark.parametrize("policy", ["squash", "crop"])
@pytest.mark.parametrize("recipe", ["postprocess", "strong"])
def test_the_images_and_steps_are_those_of_a_worker(
    recipe: str, policy: str, augmentation: dict[str, object], table: Table
) -> None:
    for epoch in range(3):
        here, there = (
            samples(dataset(table, where, policy, recipe, **augmentation), epoch, fakes=True)
            for where in ("cpu", "device")
        )
        assert [one.steps for one in here] == [one.steps for one in there]
        assert [one.target for one in here] == [one.target for one in there]
        given = {Path(one.encoded.name).name.partition(" ")[2] for one in there if one.encoded is not None}
        assert given <= PLAIN.keys() - {"plain"}  # which is the pseudo-fake
        if policy == "squash":
            assert given == PLAIN.keys() - {"plain"}
        assert np.abs(finished(there).astype(int) - finished(here)).max() <= 2


def test_an_image_does_not_depend_on_its_batch(table: Table) -> None:
    every = samples(dataset(table, "device"))
    whole = finished(every)
    assert np.array_equal(np.concatenate([finished([one]) for one in every]), whole)
    assert np.array_equal(finished(every[::-1])[::-1], whole)


def test_files_that_are_large_for_their_pixels_are_decoded_by_a_worker(table: Table) -> None:
    """A batch is no larger than the memory that was checked for it."""
    path = table.path(0)
    path.write_bytes(PLAIN["plain"] + bytes(3 * 4 * SIZE**2))
    first = dataset(table, "device")[SampleKey(0, 0)]
    assert isinstance(first, Sample)
    assert first.encoded is None


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_the_number_of_workers(workers: int, table: Table) -> None:
    config = Config(
        model={"size": SIZE},  # type: ignore[arg-type]
        augment={"device": True, "decode": "device"},  # type: ignore[arg-type]
        train={"batch_size": 4, "sampling": "all"},  # type: ignore[arg-type]
    )
    batches = make_train_loader(table, config, fold=0, loader_config=LoaderConfig(workers))
    made = dataset(table, "device", recipe="postprocess")
    for batch in batches.iterate_epoch(1):
        expected = collate([made[SampleKey(1, row)] for row in batch.index.tolist()])
        assert isinstance(expected, Batch)
        assert torch.equal(batch.images, expected.images)
        assert (batch.encoded is None) is (expected.encoded is None)
        if batch.encoded is not None and expected.encoded is not None:
            assert torch.equal(batch.encoded.contents, expected.encoded.contents)
            assert torch.equal(batch.encoded.cuts, expected.encoded.cuts)
            assert batch.encoded.names == expected.encoded.names


def test_a_batch_with_nothing_left_to_do_stays_as_it_is(table: Table) -> None:
    batch = collate(samples(dataset(table, "cpu")))
    assert isinstance(batch, Batch)
    assert batch.encoded is None
    images = inputs.make_images(batch, CPU)
    assert inputs.make_images(Batch(images, batch.target, batch.index), CPU) is images


def test_a_damaged_image_is_named(table: Table) -> None:
    path = table.path(1)
    content = path.read_bytes()[:-30]
    path.write_bytes(content)
    every = samples(dataset(table, "device"))
    with pytest.raises(DataError) as caught:
        finished(every)
    assert str(caught.value) == f"{path} is truncated or damaged: {len(content)} bytes cannot be decoded"


def test_an_image_of_another_size_than_its_header_is_named(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    run = device.Device.decode_jpegs
    monkeypatch.setattr(
        device.Device, "decode_jpegs", lambda self, contents: [one[:, 1:] for one in run(self, contents)]
    )
    with pytest.raises(DataError) as caught:
        finished(samples(dataset(table, "device")))
    assert str(caught.value) == f"{table.path(0)} is damaged: its header has another size than its picture"


def test_what_the_device_refuses_is_decoded_here(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    every = samples(dataset(table, "device"))
    expected, run, sizes = finished(every), device.Device.decode_jpegs, []

    def refuse(self: device.Device, contents: list[torch.Tensor]) -> list[torch.Tensor]:
        sizes.append(len(contents))
        if any(len(one) == len(PLAIN["progressive"]) for one in contents):
            raise RuntimeError("not supported")
        return run(self, contents)

    monkeypatch.setattr(device.Device, "decode_jpegs", refuse)
    assert np.array_equal(finished(every), expected)
    assert sizes == [len(PLAIN), *[1] * len(PLAIN)]


def test_short_memory_is_no_damaged_image(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(device.Device, "decode_jpegs", fail)
    with pytest.raises(RuntimeError, match="allocate"):
        finished(samples(dataset(table, "device")))


def test_a_torchvision_without_the_decoder_is_named(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is deprecated since 0.29."""
    monkeypatch.delattr("torchvision.io.decode_jpeg")
    with pytest.raises(DeviceError) as caught:
        finished(samples(dataset(table, "device")))
    assert str(caught.value) == (
        "this version of torchvision decodes no JPEGs\nnext: set augment.decode = 'cpu' in config.toml"
    )


def test_the_steps_follow(table: Table) -> None:
    some = [one._replace(steps=[Step("mirror", (1, 0))]) for one in samples(dataset(table, "device"))]
    batch = collate(some)
    assert isinstance(batch, Batch)
    assert np.array_equal(inputs.make_images(batch, CPU).numpy(), finished(some)[:, :, ::-1])


def test_pixels_are_those_of_opencv() -> None:
    for name, content in PLAIN.items():
        read = CPU.decode_jpegs([torch.frombuffer(bytearray(content), dtype=torch.uint8)])[0].permute(1, 2, 0).numpy()
        assert np.array_equal(read, decode.decode(content, name)), name
    assert ResizePolicy(SIZE).apply(decode.decode(PLAIN["large"], "large")).shape == (SIZE, SIZE, 3)


@pytest.mark.gpu
def test_a_gpu_decodes_nearly_the_same() -> None:
    gpu = device.choose_device("cuda:0", None, 0)
    gpu.select()
    contents = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in PLAIN.values()]
    for there, here in zip(gpu.decode_jpegs(contents), CPU.decode_jpegs(contents), strict=True):
        assert there.shape == here.shape
        assert (there.cpu().float() - here.float()).abs().mean() < 2
