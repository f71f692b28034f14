"""Puts all folds into one proven ONNX graph."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi import console, documents, machine, publish
from ffdi.blend import Blend
from ffdi.data import source
from ffdi.data.dataset import Dataset
from ffdi.data.images import Framing
from ffdi.data.table import Table
from ffdi.pipeline import lists, scorers, screens, sources
from ffdi.store.export import ExportFolder
from ffdi.store.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.deploy.export import Graph
    from ffdi.deploy.gate import Jury


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
    from ffdi.deploy import bundle, gate, proving
    from ffdi.deploy import precision as precisions

    members, name = lists.spread(workspace, names, name)
    lists.make(workspace, names)
    export = workspace.export(members, name)
    precisions.check(precision)
    asked = proving.here(runtimes)
    blend = Blend.of([workspace.experiment(one) for one in members])
    blend.check_exportable()
    found = sources.of_blend(workspace, blend, data)
    jury = gate.jury(blend, found, soup=soup)
    with export.locked():
        console.title(f"export-onnx {export.name}: {_title(blend, precision, soup)}")
        with export.publishing(export.model_path.name) as new:
            kind, records = _write(new, blend, found, jury, precision, soup, asked)
            described = bundle.describe(new, blend, kind, soup, records)
            documents.write(new.bundle_path, described)
    scorers.mark_vetted(workspace, export, described)
    _show(export, kind, records)
    console.advise(f"invoke predict-onnx{screens.again(names, name)} --images FOLDER")


def _write(
    export: ExportFolder,
    blend: Blend,
    found: Dataset,
    jury: Jury,
    precision: str,
    soup: bool,
    asked: Sequence[str],
) -> tuple[str, dict[str, dict[str, Any]]]:
    """Writes the graph and what travels with it; gives what it multiplies in, and what each runtime has shown."""
    from ffdi.deploy import bundle, gate, golden, proving
    from ffdi.deploy import export as exporter
    from ffdi.deploy import precision as precisions

    networks = _networks(blend)
    some = jury.table.take(gate.spread(len(jury.table), golden.COUNT))
    real = _pixels(some, blend.framing)
    expected = networks.score(real)
    exact = precision == "fp32" and not soup and not blend.resizes
    trial = proving.Trial(blend.framing, exact, real, expected, jury, machine.cores())
    model = exporter.to_onnx(_soup(blend, found) if soup else networks, blend.framing.size)

    def attempt(kind: str, path: Path, folder: Path) -> proving.Candidate:
        converted = precisions.convert(kind, model, lambda: _calibrating(found, blend.framing))
        exporter.save(converted, path, bundle.metadata(blend, kind, soup))
        if jury.output == bundle.OUTPUT:
            return proving.Candidate(kind, path, path)
        exporter.save(converted, judged := folder / "judged.onnx", {}, output=jury.output)
        return proving.Candidate(kind, path, judged)

    with publish.writing(export.model_path) as beside, tempfile.TemporaryDirectory() as elsewhere:
        attempts = [partial(attempt, kind, beside, Path(elsewhere)) for kind in precisions.PRECISIONS[precision]]
        chosen, records = proving.prove_first(trial, attempts, asked)
    golden.write(export.golden_path, some, expected)
    publish.text(export.script_path, _script())
    return chosen.kind, records


def _title(blend: Blend, precision: str, soup: bool) -> str:
    folds = f"{len(blend.members)} networks as {len(blend.experiments)}" if soup else f"{len(blend.members)} networks"
    return f"{folds} in one graph of {precision}, {blend.framing.size} px"


def _networks(blend: Blend) -> Graph:
    """All folds' networks in fp32, as they were trained."""
    from ffdi.deploy.export import Graph
    from ffdi.training import detector

    members = {
        f"{member.experiment.name}.fold_{member.folder.fold}": detector.scorer(member, blend.framing.size)
        for member in blend.members
    }
    return Graph(members, blend.weights, blend.choice.combination, blend.calibration).eval()


def _soup(blend: Blend, found: Dataset) -> Graph:
    """One network for each experiment: the mean of its folds."""
    from ffdi.deploy.export import Graph
    from ffdi.training import detector, device, fold, soup

    where = device.choose("auto", None, 0)
    members = {}
    for experiment in blend.experiments:
        folds = [member for member in blend.members if member.experiment == experiment]
        config = folds[0].config
        detectors = [detector.load(config.model, member.folder.weights_path) for member in folds]
        batches = fold.reader(_some_training(found, soup.IMAGES), config, where)
        average = soup.average(detectors, batches, where)
        members[f"{experiment.name}.soup"] = detector.asked(average, config, blend.framing.size)
    weights = blend.choice.combination.spread([1] * len(members))
    return Graph(members, weights, blend.choice.combination, blend.calibration).eval()


def _some_training(found: Dataset, most: int) -> Table:
    from ffdi.deploy import gate

    train = found.split("train")
    return train.take(gate.spread(len(train), most))


def _calibrating(found: Dataset, framing: Framing) -> np.ndarray:
    """Training images that int8 learns the activations of, uint8 [N, S, S, 3]."""
    from ffdi.deploy import precision

    return _pixels(_some_training(found, precision.CALIBRATION_IMAGES), framing)


def _pixels(table: Table, framing: Framing) -> np.ndarray:
    """uint8 [N, S, S, 3]."""
    return np.stack([source.framed(table, row, framing) for row in range(len(table))])


def _script() -> str:
    from ffdi.deploy import standalone

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
