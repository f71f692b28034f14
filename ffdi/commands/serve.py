"""Serves the scores of an exported graph to a browser."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi.commands.shared import groups, scorers
from ffdi.commands.shared.options import ServeOptions
from ffdi.core import console, machine
from ffdi.core.errors import ConfigError
from ffdi.experiments.workspace import Workspace
from ffdi.inference import bundle, select
from ffdi.inference.backend import Load

if TYPE_CHECKING:
    from ffdi.inference.explain import FindLandmarks


def run(workspace: Workspace, options: ServeOptions) -> None:
    """Serves an export's scores until the process is stopped.

    Raises:
        ConfigError: the extra `app` is not installed; or the address is in use.
        ExperimentError: the export is missing or damaged.
        DeviceError, ParityError: as for `select.open_graph`.
    """
    if missing := [one for one in ("starlette", "uvicorn", "python_multipart") if find_spec(one) is None]:
        raise ConfigError(f"{missing[0]} is not installed", hint="pip install -e '.[app]'")
    from ffdi.inference import explain, server
    from ffdi.inference.explain import ImageExplainer

    find_landmarks = open_landmarks(options.landmarks)
    export = workspace.get_export(*groups.resolve_experiments(workspace, options.experiment, options.name))
    described = scorers.describe_graph(workspace, export)
    resize_policy = bundle.read_resize_policy(described)
    console.title(f"serve {export.name}: images of {resize_policy.size} px, {resize_policy.resize}")
    listener = server.open_socket(options.host, options.port)
    load = Load(explain.STEPS**2, 1, machine.count_cores())  # for the heat map of one image
    proof = select.make_proof(export, described, workspace.engines_folder, scorers.PROVEN)
    graph = select.open_graph(export.model_path, options.device, load, proof)
    console.say(f"runs on: {graph.provider} ({graph.why})")
    limits = server.Limits(options.host, options.max_mb * 1_000_000, options.allow_host)
    if not limits.is_local:
        console.warn(f"anyone who can reach {options.host} can use it; there is no password and nothing is encrypted")
    address, port = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    url = f"http://{shown}:{port}"
    console.announce(f"open {url} in a browser; Ctrl-C ends it", url=url)
    explainer = ImageExplainer(export.name, _read_oof_auc(described), graph, resize_policy, find_landmarks)
    server.serve(explainer, limits, listener)
    console.say("ended")


def open_landmarks(model: str | None) -> FindLandmarks | None:
    """Finds the landmarks of an image that is a crop of a face; None without a network for that."""
    if model is None:
        return None
    from ffdi.faces import finder

    opened = finder.open_finder(Path(model), None, threads=1, flag="--landmarks")

    def find(pixels: np.ndarray) -> np.ndarray | None:
        face = opened.find(pixels)
        return face.points if face.presence >= finder.PRESENCE else None  # NaN in a strip

    return find


def _read_oof_auc(described: Mapping[str, Any]) -> dict[str, float]:
    """Each experiment's out-of-fold AUC; {} if a bundle from another source has none."""
    try:
        return {str(name): float(score["auc"]) for name, score in described["oof"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
