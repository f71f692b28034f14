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
from ffdi.data.images.decode import ResizePolicy
from ffdi.experiments.export import ExportFolder

if TYPE_CHECKING:
    from ffdi.ensemble.group import Ensemble
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


def describe(
    export: ExportFolder, ensemble: Ensemble, precision: str, soup: bool, runtimes: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The content of bundle.json for a graph that was just written.

    Args:
        export: where the graph is.
        ensemble: whose networks are in it.
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
            "shape": ["batch", ensemble.framing.size, ensemble.framing.size, 3],
            "layout": "NHWC, RGB",
            "decode": decode.DECODE,
            "framing": ensemble.framing.resize,
            "resize": decode.RESIZES[ensemble.framing.resize],
            "normalisation": "inside the graph",
        },
        "output": {"name": OUTPUT, "dtype": "float32", "shape": ["batch"], "meaning": MEANING},
        **ensemble.describe(),
        "oof": ensemble.oof(),
        "files": {
            path.relative_to(export.folder).as_posix(): hashes.sha256(path)
            for path in (export.model_path, export.script_path, *sorted(export.golden_path.parent.iterdir()))
        },
        "runtimes": runtimes,
    }


def metadata(ensemble: Ensemble, precision: str, soup: bool) -> dict[str, str]:
    """Words that travel inside the graph."""
    members, (size, framing) = ensemble.describe()["members"], ensemble.framing
    return {
        "ffdi": __version__,
        INPUT: f"RGB, uint8 [batch, {size}, {size}, 3]; {decode.DECODE}; {framing}: {decode.RESIZES[framing]}",
        FRAMING: framing,
        OUTPUT: MEANING,
        "precision": precision,
        "method": ensemble.method,
        "calibration": ensemble.calibration.kind,
        "soup": "the folds' mean weights" if soup else "no",
        "members": "; ".join(
            f"{one['experiment']} fold {one['fold']}: {one['backbone']}, {one['size']} px, {one['weights_sha256']}"
            for one in members
        ),
        "oof_auc": "; ".join(f"{name} {auc:.4f}" for name, auc in ensemble.oof_auc().items()),
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
    content = manifests.read_manifest(export.bundle_path, {"files": dict, "input": dict, "runtimes": dict})
    for name, expected in content["files"].items():
        hashes.check_hash(links.below(export.folder, name), expected, export.bundle_path, again)
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


def framing(described: Mapping[str, Any]) -> ResizePolicy:
    """How a graph that bundle.json describes takes images."""
    return ResizePolicy(described["input"]["shape"][1], described["input"]["framing"])


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


COUNT = 16


@dataclass(frozen=True, eq=False)
class Golden:
    """A few images that travel with a graph, and the scores that it must give them wherever it is served.

    Attributes:
        names: [G], of files.
        images: uint8 [G, S, S, 3].
        y_pred: float32 [G], by torch in fp32.
    """

    names: list[str]
    images: np.ndarray
    y_pred: np.ndarray

    def check(self, run: Run, limit: float, runtime: str) -> float:
        """The largest difference from the scores.

        Raises:
            ParityError: it is above the limit; names every image.
        """
        y_pred = run(self.images)
        difference = np.abs(y_pred.astype(np.float64) - self.y_pred)
        if (difference <= limit).all():  # false for NaN as well
            return float(difference.max())
        wrong = np.flatnonzero(~(difference <= limit)).tolist()
        raise ParityError(
            f"{runtime} does not give this export's scores on this machine: {len(wrong)} of {len(self.names)} golden "
            f"images differ by more than {limit:.2g}",
            problems=[f"{self.names[one]}: {y_pred[one]:.6f} instead of {self.y_pred[one]:.6f}" for one in wrong],
            hint="pass --device cpu, or export again on this machine",
        )


def write_golden(path: Path, table: Table, y_pred: np.ndarray) -> None:
    """Lists a table's scores, float32 [N], in a folder of its own, with copies of its files as they are."""
    names = [f"{number:02d}{table.path(number).suffix.lower()}" for number in range(len(table))]
    with files.explain_write_errors(path.parent):
        path.parent.mkdir()
        for number, name in enumerate(names):
            shutil.copyfile(table.path(number), path.with_name(name))
    files.write_text(path, score_table.to_csv(np.array(names), y_pred))


def read_golden(path: Path, framing: ResizePolicy, count: int) -> Golden:
    """The first `count` images of a list, framed as a graph takes them.

    Raises:
        DataError: an image cannot be decoded.
        OSError, ValueError: the list is missing or damaged; its hash has been looked at before.
    """
    rows = list(_rows(path))[:count]
    if foreign := [name for name, _ in rows if Path(name).name != name]:
        raise DataError(f"{path} names a file outside of its folder: {foreign[0]}")
    pixels = [framing.load(links.below(path.parent, name)) for name, _ in rows]
    return Golden([name for name, _ in rows], np.stack(pixels), np.array([score for _, score in rows], np.float32))


def _rows(path: Path) -> Iterator[tuple[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row[score_table.COLUMNS[0]], float(row[score_table.COLUMNS[1]])
