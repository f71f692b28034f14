"""Puts all folds into one proven ONNX graph."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi.commands.shared import lists, scorers, screens, sources
from ffdi.core import console, files, machine, manifests
from ffdi.data.images import cache
from ffdi.data.images.decode import ResizePolicy
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.table import Table
from ffdi.ensemble.group import Ensemble
from ffdi.experiments.export import ExportFolder
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.export.equivalence import EquivalenceCheck
    from ffdi.export.onnx import Graph


def run(
    workspace: Workspace,
    names: Sequence[str],
    *,
    data: str | None,
    name: str | None,
    precision: str,
    soup: bool,
    runtimes: str | None,
) -> None:
    """Puts all folds into one ONNX graph, and keeps it only if it gives the networks' answers on real images."""
    from ffdi.export import equivalence, quantize, verify
    from ffdi.inference import bundle

    members, name = lists.resolve_experiments(workspace, names, name)
    lists.make_listed_experiments(workspace, names)
    export = workspace.export(members, name)
    quantize.check_precision(precision)
    asked = verify.find_runtimes(runtimes)
    ensemble = Ensemble.of([workspace.experiment(one) for one in members])
    ensemble.check_exportable()
    found = sources.of_blend(workspace, ensemble, data)
    jury = equivalence.choose_equivalence_check(ensemble, found, soup=soup)
    with export.locked():
        console.title(f"export-onnx {export.name}: {_title(ensemble, precision, soup)}")
        with export.publishing(export.model_path.name) as new:
            kind, records = _write(new, ensemble, found, jury, precision, soup, asked)
            described = bundle.describe(new, ensemble, kind, soup, records)
            manifests.write_manifest(new.bundle_path, described)
    scorers.mark_vetted(workspace, export, described)
    _show(export, kind, records)
    console.advise(f"invoke predict-onnx{screens.repeat_flags(names, name)} --images FOLDER")


def _write(
    export: ExportFolder,
    ensemble: Ensemble,
    found: Dataset,
    jury: EquivalenceCheck,
    precision: str,
    soup: bool,
    asked: Sequence[str],
) -> tuple[str, dict[str, dict[str, Any]]]:
    """Writes the graph and what travels with it; gives what it multiplies in, and what each runtime has shown."""
    from ffdi.export import equivalence, onnx, quantize, verify
    from ffdi.inference import bundle

    networks = _networks(ensemble)
    some = jury.table.take(equivalence.spread_rows(len(jury.table), bundle.COUNT))
    real = _pixels(some, ensemble.framing)
    expected = networks.score(real)
    exact = precision == "fp32" and not soup and not ensemble.resizes
    trial = verify.VerifiedRuntime(ensemble.framing, exact, real, expected, jury, machine.cores())
    model = onnx.to_onnx(_soup(ensemble, found) if soup else networks, ensemble.framing.size)

    def attempt(kind: str, path: Path, folder: Path) -> verify.Candidate:
        converted = quantize.convert(kind, model, lambda: _calibrating(found, ensemble.framing))
        onnx.save(converted, path, bundle.metadata(ensemble, kind, soup))
        if jury.output == bundle.OUTPUT:
            return verify.Candidate(kind, path, path)
        onnx.save(converted, judged := folder / "judged.onnx", {}, output=jury.output)
        return verify.Candidate(kind, path, judged)

    with files.open_atomic(export.model_path) as beside, tempfile.TemporaryDirectory() as elsewhere:
        attempts = [partial(attempt, kind, beside, Path(elsewhere)) for kind in quantize.PRECISIONS[precision]]
        chosen, records = verify.verify_first(trial, attempts, asked)
    bundle.write_golden(export.golden_path, some, expected)
    files.write_text(export.script_path, _script())
    return chosen.kind, records


def _title(ensemble: Ensemble, precision: str, soup: bool) -> str:
    folds = (
        f"{len(ensemble.members)} networks as {len(ensemble.experiments)}"
        if soup
        else f"{len(ensemble.members)} networks"
    )
    return f"{folds} in one graph of {precision}, {ensemble.framing.size} px"


def _networks(ensemble: Ensemble) -> Graph:
    """All folds' networks in fp32, as they were trained."""
    from ffdi.export.onnx import Graph
    from ffdi.models import detector

    members = {
        f"{member.experiment.name}.fold_{member.folder.fold}": detector.scorer(member, ensemble.framing.size)
        for member in ensemble.members
    }
    return Graph(members, ensemble.weights, ensemble.choice.combination, ensemble.calibration).eval()


def _soup(ensemble: Ensemble, found: Dataset) -> Graph:
    """One network for each experiment: the mean of its folds."""
    from ffdi.export.onnx import Graph
    from ffdi.models import detector
    from ffdi.training import fold
    from ffdi.training.runtime import device
    from ffdi.training.tools import soup

    where = device.choose("auto", None, 0)
    members = {}
    for experiment in ensemble.experiments:
        folds = [member for member in ensemble.members if member.experiment == experiment]
        config = folds[0].config
        detectors = [detector.load(config.model, member.folder.weights_path) for member in folds]
        batches = fold.reader(_some_training(found, soup.IMAGES), config, where)
        average = soup.average_weights(detectors, batches, where)
        members[f"{experiment.name}.soup"] = detector.for_inference(average, config, ensemble.framing.size)
    weights = ensemble.choice.combination.spread([1] * len(members))
    return Graph(members, weights, ensemble.choice.combination, ensemble.calibration).eval()


def _some_training(found: Dataset, most: int) -> Table:
    from ffdi.export import equivalence

    train = found.split("train")
    return train.take(equivalence.spread_rows(len(train), most))


def _calibrating(found: Dataset, framing: ResizePolicy) -> np.ndarray:
    """Training images that int8 learns the activations of, uint8 [N, S, S, 3]."""
    from ffdi.export import quantize

    return _pixels(_some_training(found, quantize.CALIBRATION_IMAGES), framing)


def _pixels(table: Table, framing: ResizePolicy) -> np.ndarray:
    """uint8 [N, S, S, 3]."""
    return np.stack([cache.read_framed(table, row, framing) for row in range(len(table))])


def _script() -> str:
    from ffdi.export import standalone

    return Path(standalone.__file__).read_text(encoding="utf-8")


def _show(export: ExportFolder, kind: str, records: dict[str, dict[str, Any]]) -> None:
    for name, record in records.items():
        if "refused" in record:
            console.say(f"{name}: refused: {record['refused']}")
            for line in record["why"]:
                console.say(f"  {line}")
            continue
        worst = max(record["largest_difference"].values())
        console.say(f"{name}: largest difference of y_pred from torch {worst:.1e}{_worth(record.get('gate'))}")
    console.written(export.model_path, about=f" ({kind}, {export.model_path.stat().st_size / 2**20:.1f} MiB)")
    console.written(export.script_path, about=" (one image in, one score out, without ffdi)")


def _worth(record: dict[str, Any] | None) -> str:
    """What a graph that is not exact is worth."""
    if record is None:
        return ""
    auc, tpr = record["auc"], record["tpr_at_fpr_1e-3"]
    return (
        f"; on {record['images']} {record['split']} images AUC {auc['fp32']:.4f} -> {auc['here']:.4f}, "
        f"TPR at FPR 1e-3 {tpr['fp32']:.3f} -> {tpr['here']:.3f}"
    )
