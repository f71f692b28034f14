"""Opens an exported graph: on this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffdi.commands.shared.options import ClusterOptions
from ffdi.core import console, files, machine
from ffdi.core.errors import ExperimentError
from ffdi.experiments.export import ExportFolder
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.inference.predict import Scorer, Task


PROVEN = 4
"""Golden images that a runtime scores before it is used; --selftest uses all of them."""


def describe_graph(workspace: Workspace, export: ExportFolder) -> dict[str, Any]:
    """Reads bundle.json and checks its files; a graph from another machine is checked in a process of its own."""
    from ffdi.inference import bundle

    described = bundle.read_bundle(export)
    if not _is_vetted(workspace, export, described):
        from ffdi.inference import onnx_safety

        console.say(f"{export.model_path} was not made here: opening it in a process of its own first")
        onnx_safety.check_graph(export.model_path, bundle.read_resize_policy(described).size)
        with suppress(ExperimentError):  # a graph without a record is checked each time
            mark_vetted(workspace, export, described)
    return described


def mark_vetted(workspace: Workspace, export: ExportFolder, described: Mapping[str, Any]) -> None:
    """Records that a graph was made here, or passed `onnx_safety.check_graph`.

    Raises:
        ExperimentError: the record cannot be written.
    """
    files.write_text(_vetting_path(workspace, export, described), "")


def _is_vetted(workspace: Workspace, export: ExportFolder, described: Mapping[str, Any]) -> bool:
    return _vetting_path(workspace, export, described).is_file()


def _vetting_path(workspace: Workspace, export: ExportFolder, described: Mapping[str, Any]) -> Path:
    from ffdi.inference import bundle

    sha256 = described["files"][export.model_path.name]
    return workspace.get_vetting_path(sha256, bundle.read_resize_policy(described).size)


def open_scorer(options: ClusterOptions, task: Task, device: str) -> AbstractContextManager[Scorer]:
    """Opens a graph with the engine of --engine.

    Args:
        options: the checked flags.
        task: the graph and the images.
        device: --device, or the device of the interrupted run that is resumed.
    """
    return SCORERS[options.engine](options, task, device)


@contextmanager
def _open_local(_options: ClusterOptions, task: Task, device: str) -> Iterator[Scorer]:
    from ffdi.inference import predict
    from ffdi.inference.backend import Load

    yield predict.open_scorer(task, device, Load.plan(len(task.table), machine.count_cores()))


@contextmanager
def _open_ray(options: ClusterOptions, task: Task, device: str) -> Iterator[Scorer]:
    from ffdi.engines import cluster, servers

    with cluster.connect(options.address):
        console.say(f"engine: Ray on {cluster.describe_machines()}, which open the graph")
        yield servers.open_scorer(task, device)


SCORERS: dict[str, Callable[..., AbstractContextManager[Scorer]]] = {"local": _open_local, "ray": _open_ray}
"""By the value of --engine."""
