"""The loop, on a problem that a linear network can learn."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from ffdi.config.schema import Config, TrainConfig
from ffdi.core.errors import TrainingError
from ffdi.data.images.deferred import Axis, Resize, pack_resizes
from ffdi.data.loading.loader import Batch, Batches
from ffdi.models.tuning import TunedNetwork
from ffdi.training import loop, resize
from ffdi.training.feed_meter import WaitingForData
from ffdi.training.loop import Step, fit
from ffdi.training.optim import create_loss
from ffdi.training.runtime import device
from ffdi.training.runtime.device import Device
from ffdi.training.state import EpochProgress, EpochRecord, TrainingState

CPU = device.choose_device("cpu", "fp32", 0)


class Linear(TunedNetwork):
    """Stands for a Detector: the mean brightness of 2 x 2 images, scaled and shifted."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.tune, self.trained = (
            "all",
            frozenset({"layer.weight", "layer.bias", "backbone.layer.weight", "backbone.layer.bias"}),
        )

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]
        """Itself."""
        return self

    def get_classifier(self) -> nn.Module:
        """As timm's networks give it."""
        return self.layer

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.float().mean((1, 2, 3)).unsqueeze(1) / 255).squeeze(1)


class Bright:
    """Bright images are fake."""

    fake_fraction = 0.5

    def __init__(self, batches: int = 5, target_nan: bool = False) -> None:
        self.batches, self.target_nan = batches, target_nan
        self.epochs: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self.batches

    @property
    def rows(self) -> int:
        return 8 * self.batches

    def __iter__(self) -> Iterator[Batch]:
        for number in range(self.batches):
            levels = (torch.arange(8) * 32 + number).to(torch.uint8)
            target = (levels > 127).float()
            if self.target_nan and number == 2:
                target[0] = float("nan")
            yield Batch(levels.view(8, 1, 1, 1).expand(8, 2, 2, 3), target, torch.arange(8))

    def iterate_epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        self.epochs.append((epoch, start))
        return iter(self)

    repeat_epochs = Batches.repeat_epochs

    def list_names(self, index: list[int]) -> list[str]:
        return [f"{row}.jpg" for row in index]


def fitted(
    recipe: TrainConfig, network: Linear | None = None, training: Bright | None = None
) -> tuple[TrainingState, list]:
    """The state at the end, and everything that fit yields."""
    config = Config(train=recipe)
    state = TrainingState.create(network or Linear(), recipe, CPU)  # type: ignore[arg-type]
    return state, list(fit(state, training or Bright(), Bright(), config, CPU, seed=0))  # type: ignore[arg-type]


def run(config: TrainConfig, training: Bright | None = None) -> list[Step | EpochRecord]:
    """Everything that fit yields."""
    return fitted(config, training=training)[1]


def test_the_loss_falls_and_the_classes_separate() -> None:
    records = [event for event in run(TrainConfig(epochs=8, lr=0.3)) if isinstance(event, EpochRecord)]
    assert [record.epoch for record in records] == list(range(8))
    assert records[0].train_loss > records[-1].train_loss
    assert records[-1].heldout_auc == 1
    assert records[-1].heldout_accuracy > 0.9


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_the_network_gets_resized_images(micro_batches: int) -> None:
    """Its loss is that of the same images, resized before."""
    images = torch.arange(6 * 9 * 3).view(6, 3, 3, 3).to(torch.uint8)
    axis = Axis(3, 0, 3, 2, 0, 2, cubic=False)
    resizes = torch.from_numpy(pack_resizes([Resize(axis, axis)] * 6))
    resized = resize.resize_images(images.view(-1, 3), resizes, CPU)
    assert resized.shape == (6, 2, 2, 3)
    config = Config(train={"micro_batches": micro_batches})  # type: ignore[arg-type]
    losses = []
    for pixels, remaining in ((images.view(-1, 3), resizes), (resized, None)):
        network = Linear()
        network.layer.weight.data.fill_(1.0)
        state = TrainingState.create(network, config.train, CPU)  # type: ignore[arg-type]
        batch = Batch(pixels, torch.tensor([0.0, 1, 0, 1, 1, 0]), torch.arange(6), resizes=remaining)
        result = loop.train_step(network, state, batch, create_loss(config.train, 0.5), config, CPU)
        losses.append((result.loss.item(), result.images, network.layer.weight.item()))
    assert losses[0] == losses[1]
    assert losses[0][1] == 6


def test_each_step_and_epoch_is_an_event() -> None:
    training = Bright()
    state, events = fitted(TrainConfig(epochs=2, lr=0.1), training=training)
    assert training.epochs == [(0, 0), (1, 0)]
    steps = [(event.epoch, event.step, event.steps, event.images) for event in events if isinstance(event, Step)]
    assert steps[:5] == [(0, step, 5, 8 * (step + 1)) for step in range(5)]
    assert len(steps) == 10
    assert [event for event in events if isinstance(event, EpochRecord)] == state.history
    assert (state.epoch, state.global_step, state.best) == (2, 10, None)


def test_the_last_epoch_is_used_unless_select_is_best() -> None:
    class Worsening(Linear):
        """Gives its best order in the first epoch: later its sign is turned."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = super().forward(images)
            return logits if self.training or self.layer.weight.item() < 0.2 else -logits

    def kept(select: str) -> TrainingState:
        config = TrainConfig(epochs=6, lr=0.03, select=select, schedule="constant")  # type: ignore[arg-type]
        return fitted(config, Worsening())[0]

    assert kept("last").best is None
    assert kept("last").eval_model.layer.weight.item() > 0.2  # type: ignore[operator]
    best = kept("best")
    assert best.best is not None
    assert best.best.epoch < 5
    assert best.eval_model.layer.weight.item() < 0.2  # type: ignore[operator]


def test_the_ema_model_is_the_eval_model() -> None:
    fast, _ = fitted(TrainConfig(epochs=3, lr=0.3, schedule="constant", ema_decay=0))
    slow, _ = fitted(TrainConfig(epochs=3, lr=0.3, schedule="constant", ema_decay=0.99))
    assert slow.eval_model is not slow.detector
    assert 0 < slow.eval_model.layer.weight.item() < fast.eval_model.layer.weight.item()  # type: ignore[operator]


def test_gradients_are_clipped() -> None:
    def moved(clip: float) -> float:
        config = TrainConfig(epochs=1, optimizer="adam", lr=0.1, clip_grad=clip, weight_decay=0)
        seen = []
        network = Linear()
        network.layer.weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad))
        fitted(config, network, Bright(1))
        return float(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).norm())

    assert moved(0) > 1e-2
    assert moved(1e-3) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("micro_batches", [2, 3, 4, 100])
def test_micro_batches_are_one_step(micro_batches: int) -> None:
    whole, events = fitted(TrainConfig(epochs=3, lr=0.1))
    parts, others = fitted(TrainConfig(epochs=3, lr=0.1, micro_batches=micro_batches))
    for one, other in zip(whole.detector.parameters(), parts.detector.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    losses = [[one.train_loss for one in some if isinstance(one, EpochRecord)] for some in (events, others)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert len(events) == len(others)


@pytest.mark.parametrize(
    ("images", "count", "fewest", "sizes"),
    [
        (8, 1, 8, [8]),
        (8, 3, 8, [2, 3, 3]),
        (5, 4, 5, [2, 3]),
        (1, 2, 1, [1]),
        (7, 100, 7, [2, 2, 3]),
        (4, 2, 3, [4]),  # the other process has 3, which are one part
    ],
)
def test_micro_batches_have_equal_sizes_and_two_images_at_least(
    images: int, count: int, fewest: int, sizes: list[int]
) -> None:
    assert [part.stop - part.start for part in loop._split_batch(images, count, fewest, 1)] == sizes


def test_losses_are_allocated_once() -> None:
    progress = EpochProgress()
    progress.add(torch.tensor(0.5), 3)
    place = progress.losses.data_ptr()
    for loss in (0.25, 0.125):
        progress.add(torch.tensor(loss), 3)
    assert (progress.step, progress.losses.tolist(), progress.losses.data_ptr()) == (3, [0.5, 0.25, 0.125], place)
    resumed = EpochProgress(step=2, losses=torch.tensor([0.5, 0.25]))
    resumed.add(torch.tensor(0.125), 3)
    assert (resumed.step, resumed.losses.tolist()) == (3, [0.5, 0.25, 0.125])


def test_an_infinite_loss_is_an_error_with_its_step() -> None:
    with pytest.raises(TrainingError) as caught:
        run(TrainConfig(epochs=2, lr=0.1), Bright(target_nan=True))
    assert str(caught.value) == (
        "the loss is nan in epoch 1, step 3: training has diverged\n"
        + "".join(f"  in this step: {row}.jpg\n" for row in range(8))
        + "next: lower train.lr, set train.clip_grad, or set train.precision = 'fp32' in config.toml"
    )


class Slow(Bright):
    """Each batch takes a second of the faked clock."""

    def __init__(self, batches: int, clock: Iterator[float]) -> None:
        super().__init__(batches)
        self.clock = clock

    def iterate_epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in super().iterate_epoch(epoch, start):
            for _ in range(1000):
                next(self.clock)
            yield batch


@pytest.mark.parametrize("has_clock", [True, False])
def test_a_device_that_waits_for_data_is_reported_once(has_clock: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where the device has its own clock; the share of each epoch is in its record everywhere."""
    clock = itertools.count(0, 0.001)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(Device, "mark_time", lambda _: next(clock))
    monkeypatch.setattr(Device, "has_clock", has_clock)
    state, events = fitted(TrainConfig(epochs=3), training=Slow(45, clock))
    warnings = [number for number, event in enumerate(events) if isinstance(event, WaitingForData)]
    assert warnings == ([2 * loop.CHECK_EVERY] if has_clock else [])  # behind the step that ends the second window
    assert all(0.9 < record.waiting < 1 for record in state.history)
    assert len(state.history) == 3
