"""The search space of a sweep: a list of values or a range for each key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffdi.config import variants
from ffdi.config.variants import Keys
from ffdi.core.errors import ConfigError

LOG_RATIO = 10
"""A range with at least this ratio between its ends is sampled on a logarithmic scale."""
MAX_VALUE = 1e15
"""The largest absolute value of a range; integers up to this value are exact in floating point."""


@dataclass(frozen=True)
class Range:
    """The numbers between two ends, both included; integers if both ends are integers."""

    low: float
    high: float

    @property
    def is_integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def is_logarithmic(self) -> bool:
        return self.low > 0 and self.high / self.low >= LOG_RATIO

    def sample(self, rng: np.random.Generator) -> float | int:
        """A random number, an integer or rounded to three digits."""
        top = self.high + 1 if self.is_integer else self.high  # gives the last integer its share
        if self.is_logarithmic:
            return self.round(math.exp(rng.uniform(math.log(self.low), math.log(top))))
        return self.round(rng.uniform(self.low, top))

    def round(self, number: float) -> float | int:
        """Rounds to an integer or to three digits, within the range, for readable names and configs."""
        rounded = math.floor(number) if self.is_integer else float(f"{number:.3g}")
        return min(max(rounded, self.low), self.high)


@dataclass(frozen=True)
class Space:
    """A list of values or a range for each key."""

    keys: dict[str, list[Any] | Range]

    @classmethod
    def parse(cls, words: Sequence[str]) -> Space:
        """Parses words such as 'train.lr=1e-5..1e-2' and 'augment.recipe=light,strong'.

        Raises:
            ConfigError: a word is malformed, or there is none.
        """
        if not words:
            raise ConfigError("nothing to search", hint="pass --set train.lr=1e-4,3e-4, or --set train.lr=1e-5..1e-2")
        return cls({key: _parse_range(key, values) or values for key, values in variants.parse_grid(words).items()})

    def list_combinations(self) -> list[Keys]:
        """The grid.

        Raises:
            ConfigError: a key has a range.
        """
        lists = {key: values for key, values in self.keys.items() if isinstance(values, list)}
        if ranges := sorted(self.keys.keys() - lists.keys()):
            raise ConfigError(
                f"{', '.join(ranges)} is a range, and --sampler grid needs a list of values",
                hint="pass --sampler random --trials 20, or list the values: --set train.lr=1e-4,3e-4",
            )
        return variants.expand_grid(lists)

    def list_ends(self) -> list[Keys]:
        """Each value and each end of a range, alone."""
        return [
            {key: value}
            for key, values in self.keys.items()
            for value in ((values.low, values.high) if isinstance(values, Range) else values)
        ]

    def sample(self, rng: np.random.Generator) -> Keys:
        return {
            key: values.sample(rng) if isinstance(values, Range) else values[rng.integers(len(values))]
            for key, values in self.keys.items()
        }


def _parse_range(key: str, values: list[Any]) -> Range | None:
    """Parses one word such as '1e-5..1e-2'; None for another word, such as '../weights.pth'."""
    if len(values) != 1 or not isinstance(values[0], str):
        return None
    ends = [variants.parse_value(end) for end in values[0].split("..")]
    if len(ends) != 2 or not all(type(end) in (int, float) for end in ends):
        return None
    if all(abs(end) <= MAX_VALUE for end in ends) and ends[0] < ends[1]:
        return Range(*ends)
    raise ConfigError(f"--set {key}={values[0]}: not a range", hint=f"pass --set {key}=1e-5..1e-2, the lower end first")
