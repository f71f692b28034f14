"""Folds on a GPU; a CPU takes its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ffdi.commands.shared import planning
from ffdi.data.loading.augment import Augmentation
from ffdi.models.detector import Detector
from ffdi.synthetic.operations import Step
from ffdi.training.runtime import device as devices
from ffdi.training.runtime.device import Device
from tests.conftest import Invoke

Modes = set[tuple[bool, bool, bool]]
OFF = False, False, False
STRICT, TOLERANT, FAST = (True, False, False), (True, True, False), (False, False, True)
"""Whether kernels are deterministic, whether others are allowed, and whether cuDNN compares its own."""


def read_mode() -> tuple[bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
    )


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> dict[bool, Modes]:
    """The modes of the forward passes, for training and for scores. All devices count as GPUs."""
    monkeypatch.setattr(Device, "kind", property(lambda _: "cuda"))
    monkeypatch.setattr(Device, "pin_memory", property(lambda _: False))
    monkeypatch.setattr(Device, "select", lambda _: None)
    monkeypatch.setattr(Device, "has_clock", False)
    monkeypatch.setattr(Device, "send_batches", lambda _, batches: iter(batches))
    monkeypatch.setattr(devices, "_describe_gpu", lambda _: "Card")
    monkeypatch.setattr(planning, "_PASSED", set())  # else a network that an earlier test has tried is not tried again
    seen: dict[bool, Modes] = {True: set(), False: set()}
    forward = Detector.forward

    def watch(network: Detector, images: torch.Tensor) -> torch.Tensor:
        seen[network.training].add(read_mode())
        return forward(network, images)

    monkeypatch.setattr(Detector, "forward", watch)
    return seen


def train(invoke: Invoke, competition: Path) -> list[str]:
    """The warnings of a training of one fold."""
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition), "--folds", "0", "--jobs", "1")
    assert answer.code == 0, answer.err
    assert read_mode() == OFF
    return [line for line in (answer.out + answer.err).splitlines() if "warning" in line]


@pytest.mark.usefixtures("workspace")
def test_a_fold_is_trained_and_scored_by_deterministic_kernels(
    competition: Path, invoke: Invoke, modes: dict[bool, Modes]
) -> None:
    assert train(invoke, competition) == []
    assert modes == {True: {OFF, STRICT}, False: {OFF, STRICT, TOLERANT}}  # without a mode, the size is checked


@pytest.mark.usefixtures("workspace")
def test_an_operation_without_a_deterministic_kernel_is_reported_and_trained(
    competition: Path, invoke: Invoke, modes: dict[bool, Modes], monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = Detector.normalize
    zero = torch.tensor([0])
    monkeypatch.setattr(
        Detector, "normalize", lambda network, images: embed(network, images).put_(zero, torch.zeros(1))
    )
    assert train(invoke, competition) == [
        "fold 0  warning: torch has no deterministic kernel on this GPU for put_: the last bits of the weights differ "
        "between runs, as with train.deterministic = false, which is faster"
    ]
    assert modes[True] >= {TOLERANT}
    assert modes[False] >= {TOLERANT}


def test_speed_can_be_chosen_instead(
    workspace: Path, competition: Path, invoke: Invoke, modes: dict[bool, Modes]
) -> None:
    path = workspace / "experiments" / "tiny" / "config.toml"
    path.write_text(path.read_text() + "deterministic = false\n")
    assert train(invoke, competition) == []
    assert modes == {True: {OFF, FAST}, False: {OFF, FAST, TOLERANT}}


@pytest.mark.parametrize("device", ["false", "true"])
def test_an_augmentation_that_repeats_itself_is_refused(
    device: str, workspace: Path, competition: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workspace / "experiments" / "tiny" / "config.toml"
    path.write_text(path.read_text().replace("[augment]\n", f"[augment]\ndevice = {device}\n"))
    monkeypatch.setattr(Augmentation, "draw_steps", lambda *_: [Step("mirror", (1, 0))])
    answer = invoke("train-folds", "--experiment", "tiny", "--data", str(competition), "--folds", "0", "--jobs", "1")
    assert answer.code == 1
    assert answer.err.startswith("error: augmentation repeats itself: 16 images are the same in two epochs\n")
