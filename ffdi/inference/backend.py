"""What every engine that can run a graph looks like from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]
"""uint8 [N, S, S, 3] RGB, N > 0 -> the graph's output: y_pred float32 [N], or the logits float32 [N, M]."""


@dataclass(frozen=True)
class Load:
    """How a graph is going to be asked.

    Attributes:
        images: how many there are.
        streams: calls side by side.
        threads: CPU threads for each of them.
    """

    images: int
    streams: int
    threads: int

    @classmethod
    def of(cls, images: int, cores: int) -> Load:
        """One thread for each of many calls, or all threads for one: calls side by side wait for nobody, and a few
        images are sooner done together."""
        return cls(images, cores, 1) if images >= MANY * cores else cls(images, 1, cores)

    def batch(self, most: int) -> int:
        """How many images to ask for at once."""
        return max(1, min(most, self.images // self.streams))


@dataclass(frozen=True, eq=False)
class OpenGraph:
    """A graph that is ready to score.

    Attributes:
        runtime: whose it is, a key of `serving.RUNTIMES`.
        provider: what really runs, in that engine's own words.
        why: one line for the person who started it.
        batch: how many images it is best asked for at once.
        streams: how many threads may call `run` side by side.
        run: any number of images in, their scores out. Memory grows with their number where the batch is not fixed.
    """

    runtime: str
    provider: str
    why: str
    batch: int
    streams: int
    run: Run

    def score(self, images: np.ndarray) -> np.ndarray:
        """Any number of images, uint8 [N, S, S, 3], at most `batch` at a time -> their scores."""
        return np.concatenate([self.run(part) for part in parts(images, self.batch)])


@dataclass(frozen=True)
class Runtime:
    """An engine, in one of its ways to multiply.

    Attributes:
        exact: whether it multiplies in fp32, so that its scores must equal torch's.
        offered: whether it may be taken without having been asked for.
        numbered: whether there can be several such devices.
        missing: why device number N cannot run here; empty where it can.
        open: a graph, on device number N, for a load.
    """

    exact: bool
    offered: bool
    numbered: bool
    missing: Callable[[int], str]
    open: Callable[[Path, int, Load], OpenGraph]


def padded(run: Run, batch: int) -> Run:
    """Asks a graph of fixed batch for any number of images: the last batch is filled up with black ones."""

    def run_all(images: np.ndarray) -> np.ndarray:
        return np.concatenate([run(_filled(part, batch))[: len(part)] for part in parts(images, batch)])

    return run_all


def parts(images: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Views of at most so many images."""
    return (images[start : start + batch] for start in range(0, len(images), batch))


def _filled(part: np.ndarray, batch: int) -> np.ndarray:
    if len(part) == batch:
        return part
    return np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])


MANY = 32
"""Images for each core from which on calls side by side are worth it."""
