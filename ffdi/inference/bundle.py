"""bundle.json: everything a server has to know about an exported graph."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ffdi import __version__
from ffdi.config.schema import LARGEST
from ffdi.core import hashes, links, manifests
from ffdi.core.errors import ExperimentError
from ffdi.data.images import decode
from ffdi.data.images.decode import Framing
from ffdi.experiments.export import ExportFolder

if TYPE_CHECKING:
    from ffdi.ensemble.group import Blend

INPUT, OUTPUT, LOGITS = "images", "y_pred", "logits"
FRAMING = "framing"
MEANING = "probability that the face is fake"


def describe(
    export: ExportFolder, blend: Blend, precision: str, soup: bool, runtimes: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The content of bundle.json for a graph that was just written.

    Args:
        export: where the graph is.
        blend: whose networks are in it.
        precision: what it multiplies in, inside the networks: a key of `precision.KINDS`.
        soup: whether each experiment's folds are one network.
        runtimes: what `proving.prove_first` found.
    """
    return {
        "version": __version__,
        "precision": precision,
        "soup": soup,
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": ["batch", blend.framing.size, blend.framing.size, 3],
            "layout": "NHWC, RGB",
            "decode": decode.DECODE,
            "framing": blend.framing.resize,
            "resize": decode.RESIZES[blend.framing.resize],
            "normalisation": "inside the graph",
        },
        "output": {"name": OUTPUT, "dtype": "float32", "shape": ["batch"], "meaning": MEANING},
        **blend.describe(),
        "oof": blend.oof(),
        "files": {
            path.relative_to(export.folder).as_posix(): hashes.sha256(path)
            for path in (export.model_path, export.script_path, *sorted(export.golden_path.parent.iterdir()))
        },
        "runtimes": runtimes,
    }


def metadata(blend: Blend, precision: str, soup: bool) -> dict[str, str]:
    """Words that travel inside the graph."""
    members, (size, framing) = blend.describe()["members"], blend.framing
    return {
        "ffdi": __version__,
        INPUT: f"RGB, uint8 [batch, {size}, {size}, 3]; {decode.DECODE}; {framing}: {decode.RESIZES[framing]}",
        FRAMING: framing,
        OUTPUT: MEANING,
        "precision": precision,
        "method": blend.method,
        "calibration": blend.calibration.kind,
        "soup": "the folds' mean weights" if soup else "no",
        "members": "; ".join(
            f"{one['experiment']} fold {one['fold']}: {one['backbone']}, {one['size']} px, {one['weights_sha256']}"
            for one in members
        ),
        "oof_auc": "; ".join(f"{name} {auc:.4f}" for name, auc in blend.oof_auc().items()),
    }


def read(export: ExportFolder) -> dict[str, Any]:
    """The description of an exported graph, after a look at the hashes of all its files.

    Raises:
        ExperimentError: nothing was exported, a file is not the one described, or the graph wants images prepared in
            a way that this version does not.
    """
    again = "invoke export-onnx" + "".join(f" --experiment {shlex.quote(one)}" for one in export.name.split("+"))
    if not export.bundle_path.is_file():
        raise ExperimentError(f"{export.bundle_path} does not exist: nothing was exported", hint=again)
    content = manifests.read(export.bundle_path, {"files": dict, "input": dict, "runtimes": dict})
    for name, expected in content["files"].items():
        hashes.check(links.below(export.folder, name), expected, export.bundle_path, again)
    if not _usable(export, content):
        raise ExperimentError(f"{export.bundle_path} does not say what a server needs", hint=again)
    resize = decode.RESIZES.get(str(content["input"]["framing"]), "another way")
    for key, policy in (("decode", decode.DECODE), ("resize", resize)):
        if content["input"][key] != policy:
            raise ExperimentError(
                f"{export.bundle_path} was made for images with '{key}: {content['input'][key]}'; this version has "
                f"'{key}: {policy}'",
                hint=again,
            )
    return content


def framing(described: Mapping[str, Any]) -> Framing:
    """How a graph that bundle.json describes takes images."""
    return Framing(described["input"]["shape"][1], described["input"]["framing"])


def _usable(export: ExportFolder, content: dict[str, Any]) -> bool:
    """Whether everything that is asked for later is there."""
    try:
        size, limits = content["input"]["shape"][1], [record["limit"] for record in content["runtimes"].values()]
        told = (
            content["runtimes"]["cpu"]["limit"] is not None
            and {"decode", "framing", "resize"} <= content["input"].keys()
        )
        told = told and {export.model_path.name, "golden/golden.csv"} <= content["files"].keys()
    except (KeyError, TypeError, IndexError, AttributeError):
        return False
    return (
        told
        and isinstance(size, int)
        and 0 < size <= LARGEST
        and all(limit is None or isinstance(limit, float) for limit in limits)
    )
