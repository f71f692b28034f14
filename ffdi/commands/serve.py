"""Serves an exported graph to a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from ffdi.commands.shared import lists, scorers
from ffdi.core import console, machine
from ffdi.core.errors import ConfigError
from ffdi.experiments.workspace import Workspace
from ffdi.inference import bundle, select
from ffdi.inference.backend import Load

PORT = 8000
MEGABYTES = 20
"""Of an image, where a person does not say."""


def run(
    workspace: Workspace,
    names: Sequence[str],
    *,
    name: str | None,
    device: str,
    host: str,
    port: int | None,
    megabytes: int | None,
) -> None:
    """Answers with an export's scores until it is stopped.

    Raises:
        ConfigError: the extra `app` is not installed; or the address is taken.
        ExperimentError: there is no export, or it is damaged.
        DeviceError, ParityError: as for `serving.open_graph`.
    """
    if missing := [one for one in ("starlette", "uvicorn") if find_spec(one) is None]:
        raise ConfigError(f"{missing[0]} is not installed", hint="pip install -e '.[app]'")
    from ffdi.inference import judge, server
    from ffdi.inference.judge import ImageExplainer

    export = workspace.export(*lists.resolve_experiments(workspace, names, name))
    described = scorers.describe_graph(workspace, export)
    framing = bundle.framing(described)
    console.title(f"serve {export.name}: images of {framing.size} px, {framing.resize}")
    found = server.listening(host, PORT if port is None else port)
    load = Load(judge.STEPS**2, 1, machine.cores())  # what one image's heat map asks for
    graph = select.open_graph(export.model_path, device, load, select.make_proof(export, described, scorers.PROVEN))
    console.say(f"runs on: {graph.provider} ({graph.why})")
    limits = server.Limits(host, (megabytes or MEGABYTES) * 1_000_000)
    if not limits.is_local:
        console.warn(f"whoever can reach {host} can ask; there is no password and nothing is encrypted")
    address, taken = found.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    url = f"http://{shown}:{taken}"
    console.announce(f"open {url} in a browser; Ctrl-C ends it", url=url)
    server.serve(ImageExplainer(export.name, _oof_auc(described), graph, framing), limits, found)
    console.say("ended")


def _oof_auc(described: Mapping[str, Any]) -> dict[str, float]:
    """Each experiment's out-of-fold AUC; of a bundle from elsewhere, what it says of them."""
    try:
        return {str(name): float(score["auc"]) for name, score in described["oof"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
