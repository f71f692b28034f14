"""A training that is broken off and taken up again ends in the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from ffdi.config.schema import AugmentConfig, Config, ModelConfig
from ffdi.core import signals
from ffdi.core.errors import DataError, ExperimentError, TrainingError
from ffdi.core.signals import Interrupted
from ffdi.data.images.deferred import Axis, Resize, pack_resizes
from ffdi.data.loading.augment import Augmentation
from ffdi.data.loading.loader import Batch
from ffdi.experiments.checkpoint import Checkpoints
from ffdi.models import detector
from ffdi.synthetic import operations
from ffdi.training.checkpointing import CheckpointManager, ResumeEvent
from ffdi.training.loop import Step, fit
from ffdi.training.runtime import device as devices
from ffdi.training.state import TrainingState

STEPS = 4
NETWORK = ModelConfig(backbone="test_resnet", pretrained=False, size=32, drop_rate=0.3)
OWNER = {"fold": 0, "identity": "a", "folds": "b"}
RECIPES = {
    "plain": {"train": {"clip_grad": 0.0, "optimizer": "adam", "schedule": "constant"}},
    "average": {"train": {"ema_decay": 0.9, "warmup_epochs": 0.5}},
    "best": {"train": {"ema_decay": 0.5, "select": "best", "label_smoothing": 0.1}},
    "frozen at first": {"train": {"freeze_epochs": 1, "layer_decay": 0.7, "ema_decay": 0.9}},
    "sharpness": {"train": {"sam_rho": 0.05, "hard_example_fraction": 0.5, "loss": "focal"}},
    "mixed": {"augment": {"mixup": 0.4, "cutmix": 1.0}, "train": {"class_weights": True}},
    "head alone": {"model": {"tune": "head"}},
    "normalization": {"model": {"tune": "norm"}, "train": {"ema_decay": 0.9, "select": "best"}},
    "low-rank updates": {"model": {"tune": "lora", "tune_rank": 2}, "train": {"freeze_epochs": 1}},
    "singular components": {"model": {"tune": "svd", "tune_rank": 2}, "train": {"sam_rho": 0.05}},
    "losses on features": {
        "model": {"normalize_features": True},
        "train": {"alignment": 0.5, "uniformity": 0.5, "consistency": 1.0, "micro_batches": 2},
    },
    "resized and augmented on the device": {
        "augment": {"device": True, "recipe": "strong", "mixup": 0.4},
        "train": {"micro_batches": 2},
    },
}


class Faces:
    """Batches of noise, the same for the same epoch and number; every other image is fake, and brighter.

    With a recipe, they have many sizes, and its steps for the device.
    """

    rows = 6 * STEPS

    def __init__(self, recipe: str | None = None) -> None:
        self.augmentation = None if recipe is None else Augmentation(recipe)

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate_epoch(99)

    def iterate_epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for number in range(start, STEPS):
            target = np.arange(6) % 2
            noise = np.random.default_rng([epoch, number]).integers(0, 200, (6, 32, 32, 3))
            pixels = noise + 40 * target.reshape(-1, 1, 1, 1)
            images, labels = torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(target).float()
            batch = Batch(images, labels, torch.arange(6))
            if self.augmentation is not None:
                drawn = [self.augmentation.draw_steps((0, epoch, number, row)) for row in range(6)]
                axes = [Axis(edge, 0, edge, 32, 0, 32, cubic=edge < 32) for edge in (32, 21, 32, 27, 15, 32)]
                parts = [
                    image[: axis.held, : axis.held].reshape(-1, 3) for image, axis in zip(images, axes, strict=True)
                ]
                batch = batch._replace(
                    images=torch.cat(parts),
                    steps=torch.from_numpy(operations.pack_steps(drawn)),
                    resizes=torch.from_numpy(pack_resizes([Resize(axis, axis) for axis in axes])),
                )
            yield batch

    def list_names(self, index: list[int]) -> list[str]:
        return [f"{row}.jpg" for row in index]

    fake_fraction = 0.5


def trained(epochs: int, **train: object) -> Config:
    """A config of a small network with dropout, with so many epochs."""
    return Config(model=NETWORK, train={"epochs": epochs, "lr": 1e-3, **train})  # type: ignore[arg-type]


def device(precision: str) -> devices.Device:
    """The CPU."""
    return devices.choose_device("cpu", precision, 0)


def start(config: Config, where: devices.Device) -> TrainingState:
    """The initial state."""
    torch.manual_seed(1)
    network = detector.build_detector(config.model, None)
    return TrainingState.create(where.prepare(network), config.train, where)


def events(state: TrainingState, config: Config, where: devices.Device) -> Iterator[object]:
    """What fit yields."""
    training = Faces(config.augment.recipe if config.augment.device else None)
    return fit(state, training, Faces(), config, where, seed=5)  # type: ignore[arg-type]


def end(state: TrainingState, config: Config, where: devices.Device) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Trains to the end; gives everything, but for what clocks say."""
    for _ in events(state, config, where):
        pass
    tensors = {**state.state_dict(), **{f"kept/{name}": value for name, value in state.eval_model.state_dict().items()}}
    record = state.metadata()
    for one in record["history"]:
        del one["seconds"], one["images_per_second"], one["waiting"]
    return {name: value.numpy().tobytes() for name, value in tensors.items()}, record


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_training_resumed_at_any_step_ends_in_the_same_bytes(recipe: str, precision: str, tmp_path: Path) -> None:
    parts = RECIPES[recipe]
    config = trained(2, **{"lr": 3e-3, **parts.get("train", {})}).model_copy(
        update={
            "augment": AugmentConfig(**parts.get("augment", {})),
            "model": NETWORK.model_copy(update=parts.get("model", {})),
        }
    )
    where = device(precision)
    expected = end(start(config, where), config, where)
    assert len(expected[1]["history"]) == 2
    running, cuts = start(config, where), 0
    for event in events(running, config, where):
        if not isinstance(event, Step):
            continue
        path = tmp_path / "state"
        safetensors.torch.save_file(running.state_dict(), path)
        record = json.loads(json.dumps(running.metadata()))
        torch.manual_seed(99)  # nothing hangs on what others drew
        again = start(config, where)
        again.load_state_dict(safetensors.torch.load_file(path), record)
        assert end(again, config, where) == expected
        cuts += 1
    assert cuts == 2 * STEPS


def test_optimizer_tensors_have_the_layout_of_their_parameters() -> None:
    config, where = trained(1), device("fp32")
    state = start(config, where)
    next(iter(events(state, config, where)))
    again = start(config, where)
    again.load_state_dict({name: value.clone() for name, value in state.state_dict().items()}, state.metadata())
    strides = {
        (tuple(parameter.shape), parameter.stride() == some["exp_avg"].stride())
        for parameter, some in again.optimizer.state.items()
    }
    assert all(same for _, same in strides)
    assert any(len(shape) == 4 for shape, _ in strides)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """In an empty folder."""
    return Checkpoints(tmp_path / "fold_0", OWNER)


def test_an_interrupt_writes_a_checkpoint(checkpoints: Checkpoints) -> None:
    config, where = trained(2), device("fp32")
    expected = end(start(config, where), config, where)
    state, saving = start(config, where), CheckpointManager(checkpoints, every=0, machine="one")
    with signals.handle_signals(end=0.0), pytest.raises(Interrupted) as caught, saving.save_on_exit(state):
        list(events(state, config, where))
    assert (str(caught.value), caught.value.code) == ("--max-time is over", 75)
    again = start(config, where)
    assert CheckpointManager(checkpoints, every=0, machine="one").resume(again) == ResumeEvent(0, 0, [])
    assert end(again, config, where) == expected


@pytest.mark.parametrize("error", [DataError("a.jpg cannot be read"), OSError("no such disk"), GeneratorExit()])
def test_an_error_between_two_steps_writes_a_checkpoint(checkpoints: Checkpoints, error: BaseException) -> None:
    config, where = trained(2), device("fp32")
    expected = end(start(config, where), config, where)
    state, saving = start(config, where), CheckpointManager(checkpoints, every=0, machine="one")
    with pytest.raises(type(error)), saving.save_on_exit(state):
        for event in events(state, config, where):
            if isinstance(event, Step) and event.step == 2:
                raise error
    again = start(config, where)
    assert CheckpointManager(checkpoints, every=0, machine="one").resume(again) == ResumeEvent(0, 3, [])
    assert end(again, config, where) == expected


def test_an_error_within_a_step_writes_no_checkpoint(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    config, where = trained(2), device("fp32")
    state, saving = start(config, where), CheckpointManager(checkpoints, every=0, machine="one")
    monkeypatch.setattr(state.optimizer, "step", lambda *_: torch.empty(2**50))
    with pytest.raises(RuntimeError, match="allocate"), saving.save_on_exit(state):
        list(events(state, config, where))
    assert not checkpoints.folder.exists()


def test_a_diverged_training_writes_no_checkpoint(checkpoints: Checkpoints) -> None:
    config, where = trained(2, lr=1e30, clip_grad=0.0), device("fp32")
    state, saving = start(config, where), CheckpointManager(checkpoints, every=0, machine="one")
    with pytest.raises(TrainingError, match="diverged"), saving.save_on_exit(state):
        list(events(state, config, where))
    assert not checkpoints.folder.exists()


def test_a_failed_checkpoint_does_not_hide_the_first_error(checkpoints: Checkpoints) -> None:
    checkpoints.folder.write_text("in its place")
    state, saving = start(trained(2), device("fp32")), CheckpointManager(checkpoints, every=0, machine="one")
    with pytest.raises(DataError, match=r"a\.jpg"), saving.save_on_exit(state):
        raise DataError("a.jpg cannot be read")


def steps(checkpoints: Checkpoints, count: int) -> TrainingState:
    """Trains so many steps and writes each down."""
    config, where = trained(3), device("fp32")
    state, running = start(config, where), None
    running = events(state, config, where)
    done = 0
    while done < count:
        if isinstance(next(running), Step):
            done += 1
            record = {**state.metadata(), "machine": "one"}
            checkpoints.write(done, lambda path: safetensors.torch.save_file(state.state_dict(), path), record)
    return state


def test_the_last_two_checkpoints_are_retained(checkpoints: Checkpoints) -> None:
    steps(checkpoints, 4)
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == [
        f"checkpoint-00000000{number}.{ending}" for number in (3, 4) for ending in ("json", "safetensors")
    ]
    checkpoints.clear()
    assert list(checkpoints.folder.iterdir()) == []


@pytest.mark.parametrize("ending", ["json", "safetensors"])
@pytest.mark.parametrize("harm", ["flipped", "cut", "gone"])
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_is_used(
    ending: str, harm: str, checkpoints: Checkpoints
) -> None:
    steps(checkpoints, 3)
    path = checkpoints.folder / f"checkpoint-000000003.{ending}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if harm == "flipped" else content[:-40])
    if harm == "gone":
        path.unlink()
    config, where = trained(3), device("fp32")
    again = start(config, where)
    resumed = CheckpointManager(checkpoints, every=0, machine="one").resume(again)
    assert resumed is not None
    assert (resumed.epoch, resumed.step) == (0, 2)
    assert len(resumed.warnings) == (0 if (ending, harm) == ("json", "gone") else 1)
    assert all(str(path) in line for line in resumed.warnings)
    assert end(again, config, where) == end(start(config, where), config, where)


def test_without_an_undamaged_checkpoint_training_starts_again_with_a_warning(checkpoints: Checkpoints) -> None:
    steps(checkpoints, 2)
    for path in checkpoints.folder.glob("*.safetensors"):
        path.write_bytes(b"")
    again = start(trained(3), device("fp32"))
    resumed = CheckpointManager(checkpoints, every=0, machine="one").resume(again)
    assert resumed == ResumeEvent(
        0,
        0,
        [
            f"{checkpoints.folder}/checkpoint-00000000{number}.safetensors is damaged: its hash is not the one in "
            f"checkpoint-00000000{number}.json"
            for number in (2, 1)
        ],
    )


def test_another_machine_is_reported(checkpoints: Checkpoints) -> None:
    steps(checkpoints, 1)
    again = start(trained(3), device("fp32"))
    resumed = CheckpointManager(checkpoints, every=0, machine="cuda in fp16").resume(again)
    assert resumed == ResumeEvent(
        0,
        1,
        [
            "was started with one and resumes with cuda in fp16: the last bits of the weights may differ from those of "
            "either"
        ],
    )


def test_a_checkpoint_of_another_run_is_refused(checkpoints: Checkpoints) -> None:
    steps(checkpoints, 1)
    other = Checkpoints(checkpoints.folder, {**OWNER, "identity": "c"})
    with pytest.raises(ExperimentError) as caught:
        other.load_newest(print)
    assert str(caught.value) == (
        f"{checkpoints.folder}/checkpoint-000000001.json belongs to another training: it has another config, other "
        f"images or other folds\nnext: remove the fold and train it again: rm -r {checkpoints.folder}"
    )


def test_checkpoints_take_a_small_fraction_of_the_time(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    state = start(trained(1), device("fp32"))
    saving, written = CheckpointManager(checkpoints, every=10, machine="one"), []

    def write(*_: object) -> None:
        written.append(clock[0])
        clock[0] += 3  # a slow disk

    monkeypatch.setattr(Checkpoints, "write", write)
    for second in range(101, 400):
        clock[0] = max(clock[0], second)
        saving.save_if_due(state)
    assert written == [110, 213, 316]
