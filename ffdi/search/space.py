"""What a sweep may choose from: values, or a range between two of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffdi.config import variants
from ffdi.config.variants import Keys
from ffdi.core.errors import ConfigError

WIDE = 10
"""A range whose ends are so many times apart is searched by factors, not by steps."""
LARGEST = 1e15
"""No key takes more; whole numbers up to here are exact in floating point."""


@dataclass(frozen=True)
class Range:
    """Between two numbers, both included; whole ones where both ends are whole."""

    low: float
    high: float

    @property
    def whole(self) -> bool:
        """Whether its numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def logarithmic(self) -> bool:
        """Whether factors count, as for learning rates."""
        return self.low > 0 and self.high / self.low >= WIDE

    def draw(self, rng: np.random.Generator) -> float | int:
        """A number from it, with three digits where it need not be whole."""
        top = self.high + 1 if self.whole else self.high  # so that the last whole number has its share
        if self.logarithmic:
            return self.fit(math.exp(rng.uniform(math.log(self.low), math.log(top))))
        return self.fit(rng.uniform(self.low, top))

    def fit(self, number: float) -> float | int:
        """As people write it, whole or with three digits, and not outside: names and configs are read by people."""
        shown = math.floor(number) if self.whole else float(f"{number:.3g}")
        return min(max(shown, self.low), self.high)


@dataclass(frozen=True)
class Space:
    """Values, or a range of them, for each key."""

    keys: dict[str, list[Any] | Range]

    @classmethod
    def of(cls, words: Sequence[str]) -> Space:
        """What 'train.lr=1e-5..1e-2' and 'augment.recipe=light,strong' say.

        Raises:
            ConfigError: a word is not of that form, or there is none.
        """
        if not words:
            raise ConfigError("nothing to search", hint="pass --set train.lr=1e-4,3e-4, or --set train.lr=1e-5..1e-2")
        return cls({key: _range(key, values) or values for key, values in variants.grid(words).items()})

    def grid(self) -> list[Keys]:
        """Every combination.

        Raises:
            ConfigError: there is no end of them.
        """
        lists = {key: values for key, values in self.keys.items() if isinstance(values, list)}
        if open_ended := sorted(self.keys.keys() - lists.keys()):
            raise ConfigError(
                f"{', '.join(open_ended)} is a range: a grid has no end of values in it",
                hint="pass --sampler random --trials 20, or name the values: --set train.lr=1e-4,3e-4",
            )
        return variants.combinations(lists)

    def ends(self) -> list[Keys]:
        """Every value, and both ends of every range, each alone."""
        return [
            {key: value}
            for key, values in self.keys.items()
            for value in ((values.low, values.high) if isinstance(values, Range) else values)
        ]

    def draw(self, rng: np.random.Generator) -> Keys:
        """A random choice."""
        return {
            key: values.draw(rng) if isinstance(values, Range) else values[rng.integers(len(values))]
            for key, values in self.keys.items()
        }


def _range(key: str, values: list[Any]) -> Range | None:
    """From the one word '1e-5..1e-2'; None where it is none, such as '../weights.pth'."""
    if len(values) != 1 or not isinstance(values[0], str):
        return None
    ends = [variants.value(end) for end in values[0].split("..")]
    if len(ends) != 2 or not all(type(end) in (int, float) for end in ends):
        return None
    if all(abs(end) <= LARGEST for end in ends) and ends[0] < ends[1]:
        return Range(*ends)
    raise ConfigError(f"--set {key}={values[0]}: no range", hint=f"pass --set {key}=1e-5..1e-2, the lower end first")
