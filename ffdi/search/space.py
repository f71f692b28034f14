"""What a sweep may choose from: values, or a range between two of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffdi import variants
from ffdi.errors import ConfigError
from ffdi.variants import Keys

WIDE = 10
"""A range whose ends are so many times apart is searched by factors, not by steps."""


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
        """A number from it, with three digits."""
        if self.whole:
            return int(rng.integers(self.low, self.high, endpoint=True))
        if self.logarithmic:
            return short(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return short(rng.uniform(self.low, self.high))


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

    def draw(self, rng: np.random.Generator) -> Keys:
        """A random choice."""
        return {
            key: values.draw(rng) if isinstance(values, Range) else values[rng.integers(len(values))]
            for key, values in self.keys.items()
        }


def short(number: float) -> float:
    """With three digits: names and configs are read by people."""
    return float(f"{number:.3g}")


def _range(key: str, values: list[Any]) -> Range | None:
    """From the one word '1e-5..1e-2'; None where it is no range."""
    if len(values) != 1 or not isinstance(values[0], str) or ".." not in values[0]:
        return None
    ends = [variants.value(end) for end in values[0].split("..")]
    if len(ends) == 2 and all(type(end) in (int, float) for end in ends) and ends[0] < ends[1]:
        return Range(*ends)
    raise ConfigError(f"--set {key}={values[0]}: no range", hint=f"pass --set {key}=1e-5..1e-2, the lower end first")
