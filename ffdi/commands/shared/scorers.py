"""The graph that scores, and where: on this machine, or on a cluster's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffdi.commands.shared.engines import Engine
from ffdi.core import console, files, machine
from ffdi.core.errors import ExperimentError
from ffdi.experiments.export import ExportFolder
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.inference.predict import Scorer, Task


PROVEN = 4
"""Golden images on which a runtime is tried before it serves; --selftest asks for all of them."""


def describe_graph(workspace: Workspace, export: ExportFolder) -> dict[str, Any]:
    """What bundle.json says, once the files are those that it describes; a graph from elsewhere is vetted first."""
    from ffdi.inference import bundle

    described = bundle.read(export)
    if not _is_vetted(workspace, export, described):
        from ffdi.inference import onnx_safety

        console.say(f"{export.model_path} was not made here: opening it in a process of its own first")
        onnx_safety.check_graph(export.model_path, bundle.framing(described).size)
        with suppress(ExperimentError):  # where nothing can be written, it is looked at each time
            mark_vetted(workspace, export, described)
    return described


def mark_vetted(workspace: Workspace, export: ExportFolder, described: Mapping[str, Any]) -> None:
    """Notes that a graph, with images of this size, was made here, or opened within bounds.

    Raises:
        ExperimentError: it cannot be written.
    """
    files.write_text(*_mark(workspace, export, described))


def _is_vetted(workspace: Workspace, export: ExportFolder, described: Mapping[str, Any]) -> bool:
    path, words = _mark(workspace, export, described)
    try:
        return path.read_text(encoding="utf-8") == words
    except (OSError, ValueError):
        return False


def _mark(workspace: Workspace, export: ExportFolder, described: Mapping[str, Any]) -> tuple[Path, str]:
    """The file that stands for a graph, and what is in it; earlier versions, which ran nothing, left it empty."""
    from ffdi.inference import bundle

    path = workspace.vetted_path(described["files"][export.model_path.name])
    return path, f"made here or opened within bounds, {bundle.framing(described).size} px\n"


def open_scorer(engine: Engine, task: Task, device: str) -> AbstractContextManager[Scorer]:
    """Opens a graph where an engine scores.

    Args:
        engine: which; it has been checked.
        task: what is to be scored.
        device: `--device`, as a person has said it, or as a run that was begun has it.
    """
    return SCORERS[engine.name](engine, task, device)


@contextmanager
def _local(_engine: Engine, task: Task, device: str) -> Iterator[Scorer]:
    from ffdi.inference import predict
    from ffdi.inference.backend import Load

    yield predict.open_scorer(task, device, Load.of(len(task.table), machine.cores()))


@contextmanager
def _ray(engine: Engine, task: Task, device: str) -> Iterator[Scorer]:
    from ffdi.engines import cluster, servers

    with cluster.connect(engine.address):
        console.say(f"engine: Ray on {cluster.describe_machines()}, which open the graph")
        yield servers.opened(task, device)


SCORERS: dict[str, Callable[..., AbstractContextManager[Scorer]]] = {"local": _local, "ray": _ray}
"""By the name that --engine knows them by."""
