"""The learning rate range test."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from ffdi.config.schema import Config, TrainConfig
from ffdi.core.errors import TrainingError
from ffdi.training.loop import StepResult
from ffdi.training.state import TrainingState
from ffdi.training.tools import lr_finder
from ffdi.training.tools.lr_finder import HIGHEST, LOWEST, LrStep
from tests.training.test_loop import CPU, Bright, Linear


def tried(losses: list[float]) -> list[LrStep]:
    """At rates from the lowest to the highest."""
    last = len(losses) - 1
    return [LrStep(LOWEST * (HIGHEST / LOWEST) ** (number / last), loss) for number, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "low", "high", "rate"),
    [
        ([0.7, 0.69, 0.6, 0.4, 0.3, 0.5, 0.6, 2.0], 1e-6, 1e-2, 1e-4),
        ([0.70, 0.71, 0.72, 0.60, 0.62, 0.40, 0.30, 0.90], 1e-4, 1.0, 1e-2),  # a bump on the way down
        ([0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.4, 0.3], 1e-3, 10.0, 0.1),  # it never rises
    ],
)
def test_the_middle_of_the_falling_range_is_suggested(
    losses: list[float], low: float, high: float, rate: float
) -> None:
    found = lr_finder.suggest_learning_rate(tried(losses))
    assert found == pytest.approx((low, high, rate))


@pytest.mark.parametrize(
    ("losses", "error"),
    [
        (
            [],
            "the loss is not finite even at a learning rate of 1e-06\n"
            "next: set train.precision = 'fp32' in config.toml",
        ),
        (
            [0.7, 0.8, 0.798, 1.0, 1.1, 1.2, 1.3, 1.4],
            "no learning rate between 1e-06 and 10 lowers the loss in 8 steps\n"
            "next: pass more --steps; if the error stays, check the data: invoke doctor",
        ),
    ],
    ids=["nothing", "rises"],
)
def test_without_a_falling_loss_there_is_no_suggestion(losses: list[float], error: str) -> None:
    with pytest.raises(TrainingError) as caught:
        lr_finder.suggest_learning_rate(tried(losses) if losses else [])
    assert str(caught.value) == error


def measured(train: TrainConfig, steps: int) -> list[LrStep]:
    state = TrainingState.create(CPU.prepare(Linear()), train, CPU)  # type: ignore[arg-type]
    return list(lr_finder.run_range_test(state, Bright(), Config(train=train), CPU, steps))  # type: ignore[arg-type]


def test_rates_grow_exponentially_and_a_frozen_network_is_unfrozen() -> None:
    found = measured(TrainConfig(ema_decay=0, epochs=2, freeze_epochs=1), 60)
    rates = [one.lr for one in found]
    assert (rates[0], rates[-1], len(rates)) == (LOWEST, pytest.approx(HIGHEST), 60)
    assert len({round(math.log(high / low), 6) for low, high in itertools.pairwise(rates)}) == 1
    assert found[-1].loss < 0.6 * found[0].loss


@pytest.mark.parametrize("last", [1e3, math.nan])
def test_a_diverging_loss_ends_the_test(last: float, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([0.7] * 20 + [last] * 20)
    monkeypatch.setattr(lr_finder, "train_step", lambda *_: StepResult(torch.tensor(next(losses)), 1))
    assert [one.loss for one in measured(TrainConfig(), 40)] == pytest.approx([0.7] * 20)
