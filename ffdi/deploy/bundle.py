"""bundle.json: everything a server has to know about an exported graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ffdi import __version__, publish
from ffdi.data import images
from ffdi.deploy import parity
from ffdi.errors import ExperimentError
from ffdi.store.export import ExportFolder

if TYPE_CHECKING:
    from ffdi.blend import Blend

INPUT, OUTPUT = "images", "y_pred"
MEANING = "probability that the face is fake"


def describe(export: ExportFolder, blend: Blend, differences: dict[int, float]) -> dict[str, Any]:
    """The content of bundle.json for a graph that was just written.

    Args:
        export: where the graph is.
        blend: whose networks are in it.
        differences: what `parity.measure` found.
    """
    size = blend.sizes[0]
    return {
        "version": __version__,
        "model": {"file": export.model_path.name, "sha256": publish.sha256(export.model_path)},
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": ["batch", size, size, 3],
            "layout": "NHWC, RGB",
            "decode": images.DECODE,
            "resize": images.RESIZE,
            "normalisation": "inside the graph",
        },
        "output": {"name": OUTPUT, "dtype": "float32", "shape": ["batch"], "meaning": MEANING},
        **blend.describe(),
        "oof": blend.oof(),
        "parity": {
            "tolerance": parity.TOLERANCE,
            "runtime": "ONNX Runtime, CPU",
            "largest_difference": {str(batch): value for batch, value in differences.items()},
        },
    }


def read(export: ExportFolder) -> dict[str, Any]:
    """The description of an exported graph, after a look at the graph's hash.

    Raises:
        ExperimentError: nothing was exported, the graph is not the one described, or it wants images prepared in
            a way that this version does not.
    """
    again = f"invoke export-onnx --experiment {export.name.replace('+', ' --experiment ')}"
    if not export.bundle_path.is_file():
        raise ExperimentError(f"{export.bundle_path} does not exist: nothing was exported", hint=again)
    content = publish.read(export.bundle_path)
    if not export.model_path.is_file() or publish.sha256(export.model_path) != content["model"]["sha256"]:
        raise ExperimentError(f"{export.model_path} is not the graph that bundle.json describes", hint=again)
    for key, policy in (("decode", images.DECODE), ("resize", images.RESIZE)):
        if content["input"][key] != policy:
            raise ExperimentError(
                f"{export.bundle_path} was made for images with '{key}: {content['input'][key]}'; this version has "
                f"'{key}: {policy}'",
                hint=again,
            )
    return content
