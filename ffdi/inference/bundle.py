"""bundle.json, the description of an exported graph, and the golden images that check it on other machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ffdi import __version__
from ffdi.config.schema import MAX_SIZE
from ffdi.core import links, manifests
from ffdi.core.errors import ExperimentError, format_count
from ffdi.data.images import decode, resizing
from ffdi.data.images.resizing import ResizePolicy
from ffdi.experiments.export import ExportFolder

if TYPE_CHECKING:
    from ffdi.ensemble.ensemble import Ensemble
import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffdi.core import files
from ffdi.core.errors import DataError, ParityError
from ffdi.data.labels.table import Table
from ffdi.evaluation import score_table
from ffdi.inference.backend import Run

INPUT, OUTPUT, LOGITS = "images", "y_pred", "logits"
FRAMING = "framing"
MEANING = "probability that the face is fake"


def describe_export(
    export: ExportFolder, ensemble: Ensemble, precision: str, soup: bool, runtimes: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Returns the content of bundle.json.

    Args:
        export: the folder of the graph.
        ensemble: the networks of the graph.
        precision: of the networks, a key of `quantize.KINDS`.
        soup: the folds of each experiment are averaged into one network.
        runtimes: the records of `equivalence.verify_first`.
    """
    return {
        "version": __version__,
        "precision": precision,
        "soup": soup,
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": ["batch", ensemble.resize_policy.size, ensemble.resize_policy.size, 3],
            "layout": "NHWC, RGB",
            "decode": decode.DECODE_POLICY,
            "framing": ensemble.resize_policy.resize,
            "resize": resizing.RESIZES[ensemble.resize_policy.resize],
            "normalisation": "inside the graph",
        },
        "output": {"name": OUTPUT, "dtype": "float32", "shape": ["batch"], "meaning": MEANING},
        **ensemble.describe(),
        "oof": ensemble.read_oof_scores(),
        "files": {
            path.relative_to(export.folder).as_posix(): manifests.hash_file(path)
            for path in (export.model_path, export.script_path, *sorted(export.golden_path.parent.iterdir()))
        },
        "runtimes": runtimes,
    }


def build_metadata(ensemble: Ensemble, precision: str, soup: bool) -> dict[str, str]:
    """Returns the metadata inside the graph."""
    members, (size, resize) = ensemble.describe()["members"], ensemble.resize_policy
    return {
        "ffdi": __version__,
        INPUT: f"RGB, uint8 [batch, {size}, {size}, 3]; {decode.DECODE_POLICY}; {resize}: {resizing.RESIZES[resize]}",
        FRAMING: resize,
        OUTPUT: MEANING,
        "precision": precision,
        "method": ensemble.method,
        "calibration": ensemble.calibration.kind,
        "soup": "the folds' mean weights" if soup else "no",
        "members": "; ".join(
            f"{one['experiment']} {one['network']}: {one['backbone']}, {one['size']} px, {one['weights_sha256']}"
            for one in members
        ),
        "oof_auc": ensemble.describe_oof_scores(),
    }


EXPORT = "invoke export-onnx"
"""The next step where an export is missing or unusable."""


def read_bundle(export: ExportFolder) -> dict[str, Any]:
    """Reads the description of an exported graph, and checks the hashes of all its files.

    Raises:
        ExperimentError: nothing was exported, a file is missing or changed, or the graph needs another preparation of
            images than that of this version.
    """
    if not export.bundle_path.is_file():
        raise ExperimentError(f"{export.bundle_path} does not exist: nothing was exported", hint=EXPORT)
    content = manifests.read_manifest(export.bundle_path, {"files": dict, "input": dict, "runtimes": dict})
    for name, expected in content["files"].items():
        manifests.check_hash(links.join(export.folder, name), expected, export.bundle_path, EXPORT)
    if not _is_usable(export, content):
        raise ExperimentError(f"{export.bundle_path} lacks settings of the graph", hint=EXPORT)
    resize = resizing.RESIZES.get(str(content["input"]["framing"]), "another way")
    for key, policy in (("decode", decode.DECODE_POLICY), ("resize", resize)):
        if content["input"][key] != policy:
            raise ExperimentError(
                f"{export.bundle_path} was made for images with '{key}: {content['input'][key]}'; this version has "
                f"'{key}: {policy}'",
                hint=EXPORT,
            )
    return content


def read_resize_policy(described: Mapping[str, Any]) -> ResizePolicy:
    return ResizePolicy(described["input"]["shape"][1], described["input"]["framing"])


def _is_usable(export: ExportFolder, content: dict[str, Any]) -> bool:
    try:
        size, limits = content["input"]["shape"][1], [record["limit"] for record in content["runtimes"].values()]
        complete = (
            content["runtimes"]["cpu"]["limit"] is not None
            and {"decode", "framing", "resize"} <= content["input"].keys()
        )
        complete = complete and {export.model_path.name, "golden/golden.csv"} <= content["files"].keys()
    except (KeyError, TypeError, IndexError, AttributeError):
        return False
    return (
        complete
        and isinstance(size, int)
        and 0 < size <= MAX_SIZE
        and all(limit is None or isinstance(limit, float) for limit in limits)
    )


GOLDEN_IMAGES = 16


@dataclass(frozen=True, eq=False)
class Golden:
    """A few images of an export, and their scores, which the graph must give on every machine.

    Attributes:
        names: [G], of files.
        images: uint8 [G, S, S, 3].
        y_pred: float32 [G], by torch in fp32.
    """

    names: list[str]
    images: np.ndarray
    y_pred: np.ndarray

    def check_scores(self, run: Run, limit: float, runtime: str) -> float:
        """Returns the largest difference from the golden scores.

        Raises:
            ParityError: it is above the limit; lists the images.
        """
        y_pred = run(self.images)
        difference = np.abs(y_pred.astype(np.float64) - self.y_pred)
        if (difference <= limit).all():  # false for NaN as well
            return float(difference.max())
        wrong = np.flatnonzero(~(difference <= limit)).tolist()
        raise ParityError(
            f"{runtime} does not give this export's scores on this machine: {len(wrong)} of "
            f"{format_count(len(self.names), 'golden image')} differ by more than {limit:.2g}",
            problems=[f"{self.names[one]}: {y_pred[one]:.6f} instead of {self.y_pred[one]:.6f}" for one in wrong],
            hint="pass --device cpu, or export again on this machine",
        )


def write_golden(path: Path, table: Table, y_pred: np.ndarray) -> None:
    """Writes scores, float32 [N], as a CSV into a new folder, with copies of the image files."""
    names = [f"{number:02d}{table.path(number).suffix.lower()}" for number in range(len(table))]
    with files.explain_write_errors(path.parent):
        path.parent.mkdir()
        for number, name in enumerate(names):
            shutil.copyfile(table.path(number), path.with_name(name))
    files.write_text(path, score_table.format_scores(np.array(names), y_pred))


def read_golden(path: Path, resize_policy: ResizePolicy, count: int) -> Golden:
    """Reads the first `count` golden images, resized for the graph.

    Raises:
        DataError: an image cannot be decoded.
        OSError, ValueError: the CSV is missing or damaged; its hash was checked before.
    """
    rows = list(_read_rows(path))[:count]
    if foreign := [name for name, _ in rows if Path(name).name != name]:
        raise DataError(f"{path} names a file outside of its folder: {foreign[0]}")
    pixels = [resize_policy.load(links.join(path.parent, name)) for name, _ in rows]
    return Golden([name for name, _ in rows], np.stack(pixels), np.array([score for _, score in rows], np.float32))


def _read_rows(path: Path) -> Iterator[tuple[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row[score_table.COLUMNS[0]], float(row[score_table.COLUMNS[1]])
