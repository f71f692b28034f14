"""Samplers: they choose the settings of a sweep's trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ffdi.config.variants import Keys
from ffdi.core.errors import ConfigError, suggest_nearest
from ffdi.search.space import Range, Space

if TYPE_CHECKING:
    import optuna

DEFAULT_TRIALS = 16
"""The number of random or TPE trials without --trials."""


class Sampler(Protocol):
    """An ask-and-tell interface, as in Optuna."""

    foreseen: Sequence[Keys]
    """Settings to validate before the first training: all trials, or else each value and each end of a range alone."""

    def ask(self) -> Keys | None:
        """The settings of a new trial; None if there are no more trials."""

    def tell(self, keys: Keys, score: float) -> None:
        """Reports a trial's score at the first rung; higher is better."""


def build_sampler(name: str, space: Space, trials: int | None, seed: int) -> Sampler:
    """Makes a sampler.

    Args:
        name: a key of SAMPLERS.
        space: the search space.
        trials: at least one; None is the whole grid, or DEFAULT_TRIALS.
        seed: of the random numbers.

    Raises:
        ConfigError: the name is unknown, Optuna is missing, or the space has a range and the sampler is 'grid'.
    """
    if name not in SAMPLERS:
        raise ConfigError(f"--sampler {name}: {suggest_nearest(name, SAMPLERS)}", hint="pass --sampler grid")
    return SAMPLERS[name](space, trials, seed)


class _FixedTrials:
    """A sampler with a fixed list of trials."""

    def __init__(self, trials: Sequence[Keys]) -> None:
        self.foreseen, self._left = trials, iter(trials)

    def ask(self) -> Keys | None:
        return next(self._left, None)

    def tell(self, keys: Keys, score: float) -> None:
        """A fixed list ignores scores."""


class _OptunaSampler:
    """Optuna's tree-structured Parzen estimator, TPE (Bergstra et al., NeurIPS 2011)."""

    def __init__(self, space: Space, trials: int, seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise ConfigError("--sampler tpe needs Optuna", hint="pip install -e '.[sweep]'") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._study, self._space, self._left = optuna.create_study(direction="maximize", sampler=sampler), space, trials
        self._open: list[tuple[Keys, optuna.Trial]] = []
        self.foreseen: Sequence[Keys] = space.list_ends()

    def ask(self) -> Keys | None:
        if not self._left:
            return None
        self._left -= 1
        trial = self._study.ask()
        keys = {key: self._suggest(trial, key, values) for key, values in self._space.keys.items()}
        self._open.append((keys, trial))
        return keys

    def tell(self, keys: Keys, score: float) -> None:
        place = next(place for place, (open_keys, _) in enumerate(self._open) if open_keys == keys)
        _, trial = self._open.pop(place)
        self._study.tell(trial, max(score, 0.0))  # a diverged trial scores -inf

    @staticmethod
    def _suggest(trial: optuna.Trial, key: str, values: list[Any] | Range) -> Any:
        if isinstance(values, list):
            return values[trial.suggest_categorical(key, range(len(values)))]
        if values.is_integer:
            return trial.suggest_int(key, int(values.low), int(values.high), log=values.is_logarithmic)
        return values.round(trial.suggest_float(key, values.low, values.high, log=values.is_logarithmic))


def _build_grid(space: Space, trials: int | None, seed: int) -> Sampler:
    """All combinations in random order, so that the first trials cover the space."""
    combinations = space.list_combinations()
    order = np.random.default_rng(seed).permutation(len(combinations))[:trials]
    return _FixedTrials([combinations[place] for place in order.tolist()])


def _build_random(space: Space, trials: int | None, seed: int) -> Sampler:
    """Bergstra and Bengio, Random Search (JMLR 2012)."""
    rng = np.random.default_rng(seed)
    return _FixedTrials([space.sample(rng) for _ in range(trials or DEFAULT_TRIALS)])


def _build_tpe(space: Space, trials: int | None, seed: int) -> Sampler:
    return _OptunaSampler(space, trials or DEFAULT_TRIALS, seed)


SAMPLERS: dict[str, Callable[[Space, int | None, int], Sampler]] = {
    "grid": _build_grid,
    "random": _build_random,
    "tpe": _build_tpe,
}
