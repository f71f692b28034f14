"""The loop, on a problem that a linear network can learn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from ffdi.config import TrainConfig
from ffdi.data.loader import Batch
from ffdi.errors import TrainingError
from ffdi.training import device as devices
from ffdi.training.fit import EpochRecord, Fitted, Step, fit

CPU = devices.choose("cpu", "fp32", 0)


class Linear(nn.Module):
    """Stands for a Detector: the mean brightness of 2 x 2 images, scaled and shifted."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.float().mean((1, 2, 3)).unsqueeze(1) / 255).squeeze(1)


class Bright:
    """Bright images are fake."""

    def __init__(self, batches: int = 5, target_nan: bool = False) -> None:
        self.batches, self.target_nan = batches, target_nan
        self.epochs: list[int] = []

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Batch]:
        for number in range(self.batches):
            levels = (torch.arange(8) * 32 + number).to(torch.uint8)
            target = (levels > 127).float()
            if self.target_nan and number == 2:
                target[0] = float("nan")
            yield Batch(levels.view(8, 1, 1, 1).expand(8, 2, 2, 3), target, torch.arange(8))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        self.epochs.append(epoch)
        return iter(self)


def run(config: TrainConfig, training: Bright | None = None) -> list[Step | EpochRecord | Fitted]:
    """Everything that fit yields."""
    return list(fit(Linear(), training or Bright(), Bright(), config, CPU, seed=0))  # type: ignore[arg-type]


def test_the_loss_falls_and_the_classes_part() -> None:
    records = [event for event in run(TrainConfig(epochs=8, lr=0.3)) if isinstance(event, EpochRecord)]
    assert [record.epoch for record in records] == list(range(8))
    assert records[0].train_loss > records[-1].train_loss
    assert records[-1].val_auc == 1
    assert records[-1].val_accuracy > 0.9


def test_every_step_is_told_and_the_fitted_comes_last() -> None:
    training = Bright()
    events = run(TrainConfig(epochs=2, lr=0.1), training)
    assert training.epochs == [0, 1]
    steps = [(event.epoch, event.step, event.steps, event.images) for event in events if isinstance(event, Step)]
    assert steps[:5] == [(0, step, 5, 8 * (step + 1)) for step in range(5)]
    assert len(steps) == 10
    assert isinstance(events[-1], Fitted)
    assert events[-1].epoch == 1


def test_the_last_epoch_is_kept_unless_the_best_is_asked_for() -> None:
    class Worsening(Linear):
        """Gives its best order in the first epoch: later its sign is turned."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = super().forward(images)
            return logits if self.training or self.layer.weight.item() < 0.2 else -logits

    def kept(select: str) -> Fitted:
        config = TrainConfig(epochs=6, lr=0.03, select=select, schedule="constant")  # type: ignore[arg-type]
        return list(fit(Worsening(), Bright(), Bright(), config, CPU, seed=0))[-1]  # type: ignore[arg-type, return-value]

    assert kept("last").epoch == 5
    assert kept("best").epoch < 5
    assert kept("best").detector.layer.weight.item() < 0.2  # type: ignore[attr-defined]


def test_the_average_is_what_is_kept() -> None:
    fast = run(TrainConfig(epochs=3, lr=0.3, schedule="constant"))[-1]
    slow = run(TrainConfig(epochs=3, lr=0.3, schedule="constant", ema=0.99))[-1]
    assert isinstance(fast, Fitted)
    assert isinstance(slow, Fitted)
    assert 0 < slow.detector.layer.weight.item() < fast.detector.layer.weight.item()  # type: ignore[operator]
    assert not slow.detector.training


def test_gradients_are_clipped() -> None:
    def moved(clip: float) -> float:
        config = TrainConfig(epochs=1, optimizer="adam", lr=0.1, clip_grad=clip, weight_decay=0)
        seen = []
        network = Linear()
        network.layer.weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad))
        list(fit(network, Bright(1), Bright(), config, CPU, seed=0))  # type: ignore[arg-type]
        return float(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).norm())

    assert moved(0) > 1e-2
    assert moved(1e-3) == pytest.approx(1e-3, rel=1e-2)


def test_a_loss_that_is_not_finite_stops_training_and_says_where() -> None:
    with pytest.raises(TrainingError) as caught:
        run(TrainConfig(epochs=2, lr=0.1), Bright(target_nan=True))
    assert str(caught.value) == (
        "the loss is nan in epoch 1, step 3: training has diverged\n"
        "next: lower train.lr, set train.clip_grad, or set train.precision = 'fp32' in config.toml"
    )
