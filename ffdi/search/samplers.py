"""Where a sweep's trials come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ffdi.config.variants import Keys
from ffdi.core.errors import ConfigError, nearest
from ffdi.search.space import Range, Space

if TYPE_CHECKING:
    import optuna

TRIALS = 16
"""How many trials are drawn where nobody says."""


class Sampler(Protocol):
    """Gives the next trial's keys, and hears how each one scored at its first comparison."""

    foreseen: Sequence[Keys]
    """What can be checked before anything is trained: all trials, or else every value and end alone."""

    def ask(self) -> Keys | None:
        """The keys of a new trial; None where there are no more."""

    def tell(self, keys: Keys, score: float) -> None:
        """A trial's score; higher is better."""


def build_sampler(name: str, space: Space, trials: int | None, seed: int) -> Sampler:
    """The sampler of that name.

    Args:
        name: a key of SAMPLERS.
        space: what it chooses from.
        trials: how many it gives, at least one; None is all of a grid, or TRIALS.
        seed: decides what is drawn.

    Raises:
        ConfigError: there is none of that name, or it cannot search this space here.
    """
    if name not in SAMPLERS:
        raise ConfigError(f"--sampler {name}: {nearest(name, SAMPLERS)}", hint="pass --sampler grid")
    return SAMPLERS[name](space, trials, seed)


class _Listed:
    """Trials that are known beforehand."""

    def __init__(self, trials: Sequence[Keys]) -> None:
        self.foreseen, self._left = trials, iter(trials)

    def ask(self) -> Keys | None:
        return next(self._left, None)

    def tell(self, keys: Keys, score: float) -> None:
        """Changes nothing."""


class _Optuna:
    """Tree-structured Parzen estimators (Bergstra et al., NeurIPS 2011), as Optuna has them."""

    def __init__(self, space: Space, trials: int, seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise ConfigError("--sampler tpe needs Optuna", hint="pip install -e '.[sweep]'") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._study, self._space, self._left = optuna.create_study(direction="maximize", sampler=sampler), space, trials
        self._open: list[tuple[Keys, optuna.Trial]] = []
        self.foreseen: Sequence[Keys] = space.ends()

    def ask(self) -> Keys | None:
        if not self._left:
            return None
        self._left -= 1
        trial = self._study.ask()
        keys = {key: self._suggested(trial, key, values) for key, values in self._space.keys.items()}
        self._open.append((keys, trial))
        return keys

    def tell(self, keys: Keys, score: float) -> None:
        place = next(place for place, (asked, _) in enumerate(self._open) if asked == keys)
        _, trial = self._open.pop(place)
        self._study.tell(trial, max(score, 0.0))  # one that has diverged is worse than any guess

    @staticmethod
    def _suggested(trial: optuna.Trial, key: str, values: list[Any] | Range) -> Any:
        if isinstance(values, list):
            return values[trial.suggest_categorical(key, range(len(values)))]
        if values.whole:
            return trial.suggest_int(key, int(values.low), int(values.high), log=values.logarithmic)
        return values.fit(trial.suggest_float(key, values.low, values.high, log=values.logarithmic))


def _grid(space: Space, trials: int | None, seed: int) -> Sampler:
    """All combinations in a random order, so that the first ones are of all kinds."""
    every = space.grid()
    order = np.random.default_rng(seed).permutation(len(every))[:trials]
    return _Listed([every[place] for place in order.tolist()])


def _random(space: Space, trials: int | None, seed: int) -> Sampler:
    """Bergstra and Bengio, Random Search (JMLR 2012)."""
    rng = np.random.default_rng(seed)
    return _Listed([space.draw(rng) for _ in range(trials or TRIALS)])


def _tpe(space: Space, trials: int | None, seed: int) -> Sampler:
    return _Optuna(space, trials or TRIALS, seed)


SAMPLERS: dict[str, Callable[[Space, int | None, int], Sampler]] = {"grid": _grid, "random": _random, "tpe": _tpe}
