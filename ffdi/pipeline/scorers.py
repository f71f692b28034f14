"""Where images are scored: on this machine, or on a cluster's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from ffdi import console, machine
from ffdi.pipeline.engines import Engine

if TYPE_CHECKING:
    from ffdi.deploy.scorer import Scorer, Task


def opened(engine: Engine, task: Task, device: str) -> AbstractContextManager[Scorer]:
    """Opens a graph where an engine scores.

    Args:
        engine: which; it has been checked.
        task: what is to be scored.
        device: `--device`, as a person has said it, or as a run that was begun has it.
    """
    return SCORERS[engine.name](engine, task, device)


@contextmanager
def _local(_engine: Engine, task: Task, device: str) -> Iterator[Scorer]:
    from ffdi.deploy import scorer
    from ffdi.deploy.runtime import Load

    yield scorer.opened(task, device, Load.of(len(task.table), machine.cores()))


@contextmanager
def _ray(engine: Engine, task: Task, device: str) -> Iterator[Scorer]:
    from ffdi.engines import cluster, servers

    with cluster.joined(engine.address):
        console.say(f"engine: Ray on {cluster.described()}, which open the graph")
        yield servers.opened(task, device)


SCORERS: dict[str, Callable[..., AbstractContextManager[Scorer]]] = {"local": _local, "ray": _ray}
"""By the name that --engine knows them by."""
