"""The interface of the runtimes that score images with a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]
"""uint8 [N, S, S, 3] RGB, N > 0 -> the graph's output: y_pred float32 [N], or the logits float32 [N, M]."""


@dataclass(frozen=True)
class Load:
    """The expected use of a graph.

    Attributes:
        images: number of images.
        streams: number of parallel calls.
        threads: CPU threads of each call.
    """

    images: int
    streams: int
    threads: int

    @classmethod
    def plan(cls, images: int, cores: int) -> Load:
        """Plans parallel calls of one thread each; or one call with all cores, which is faster for few images."""
        return cls(images, cores, 1) if images >= IMAGES_PER_CORE * cores else cls(images, 1, cores)

    def choose_batch(self, most: int) -> int:
        """Returns the batch size, at most `most`."""
        return max(1, min(most, self.images // self.streams))


@dataclass(frozen=True)
class Setup:
    """How a graph is opened.

    Attributes:
        precision: of the graph: fp32, fp16 or int8.
        options: keys of `Runtime.options`, such as ("nhwc", "graph"); empty is the same as (NO_OPTIONS,).
        engines: a folder for compiled engines; None: they are not kept.
    """

    precision: str = "fp32"
    options: tuple[str, ...] = ()
    engines: Path | None = None


DEFAULT = Setup()


@dataclass(frozen=True, eq=False)
class OpenGraph:
    """A graph that is ready to score.

    Attributes:
        runtime: its name, a key of `select.RUNTIMES`.
        provider: the name of the engine's provider that really runs.
        why: one line for the user.
        batch: the best batch size.
        streams: number of threads that may call `run` in parallel.
        run: any number of images -> their scores. Without a fixed batch its memory grows with this number.
        options: of the runtime; empty for a runtime without options.
    """

    runtime: str
    provider: str
    why: str
    batch: int
    streams: int
    run: Run
    options: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """The value of --device that opens this graph again with the same options, without the device's number."""
        return "+".join([self.runtime, *self.options])

    def score(self, images: np.ndarray) -> np.ndarray:
        """Scores any number of images, uint8 [N, S, S, 3], in batches."""
        return np.concatenate([self.run(part) for part in split_batches(images, self.batch)])


class Open(Protocol):
    """Opens a graph on device number `index` for a load."""

    def __call__(self, model: Path, index: int, load: Load, setup: Setup = ..., /) -> OpenGraph: ...


@dataclass(frozen=True)
class Runtime:
    """An engine with one precision.

    Attributes:
        exact: it computes a graph of fp32 in fp32, so its scores must equal those of torch.
        offered: `--device auto` may choose it.
        numbered: a machine can have several such devices.
        missing: returns why device number N cannot run here; empty if it can.
        open: opens a graph.
        refused: precisions of graphs that it is not used for, with the reason.
        options: by precision of the graph: what may make it faster, to be tried in this order.
    """

    exact: bool
    offered: bool
    numbered: bool
    missing: Callable[[int], str]
    open: Open
    refused: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def pad_batches(run: Run, batch: int) -> Run:
    """Returns a function for any number of images, from one with a fixed batch; black images fill the last batch."""

    def run_all(images: np.ndarray) -> np.ndarray:
        return np.concatenate([run(_pad_batch(part, batch))[: len(part)] for part in split_batches(images, batch)])

    return run_all


def split_batches(images: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Yields views of at most `batch` images."""
    return (images[start : start + batch] for start in range(0, len(images), batch))


def _pad_batch(part: np.ndarray, batch: int) -> np.ndarray:
    if len(part) == batch:
        return part
    return np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])


NO_OPTIONS = "plain"
"""The option of a runtime without its other options."""
NO_DEVICE = "there is no device"
"""Why most machines do not run a runtime for GPUs."""
IMAGES_PER_CORE = 32
"""Images per core from which on parallel calls are faster."""
