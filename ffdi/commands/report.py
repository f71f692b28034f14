"""One page with all that is known of experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ffdi import __version__
from ffdi.commands.shared import lists, scores, screens, sources
from ffdi.core import console, files
from ffdi.data.images import decode
from ffdi.data.images.decode import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.ensemble.group import Ensemble
from ffdi.evaluation.predictions import OofPredictions, sigmoid
from ffdi.experiments.workspace import Workspace
from ffdi.report import gallery, sections
from ffdi.report.gallery import Exhibit
from ffdi.report.page import Page

BATCH = 16
"""Images whose heat maps are made at a time."""


def run(workspace: Workspace, names: Sequence[str], *, data: str | None, device: str, name: str | None) -> None:
    """Writes report.html: scores, charts, images that are worth a look, and where it all comes from."""
    members, name = lists.resolve_experiments(workspace, names, name)
    export = workspace.export(members, name)
    ensemble = Ensemble.of([workspace.experiment(one) for one in members])
    train = sources.of_blend(workspace, ensemble, data).split("train")
    files.check_writable(export.report_path)
    console.title(f"report {export.name}: {len(ensemble.members)} networks, {len(ensemble.deal.target)} images")
    picked = gallery.pick(ensemble.deal.target, ensemble.choice.y_pred)
    exhibits = _exhibits(ensemble, train, picked, device)
    page = _page(export.name, ensemble, exhibits, gallery.counts(picked))
    with export.locked():
        files.write_text(export.report_path, page.html())
    size = export.report_path.stat().st_size / 1e6
    console.written(export.report_path, about=f" ({len(exhibits)} images, {size:.1f} MB): open it in a browser")
    console.advise(f"invoke ensemble-submit{screens.repeat_flags(names, name)}")


def _exhibits(ensemble: Ensemble, train: Table, picked: Mapping[int, list[str]], device: str) -> list[Exhibit]:
    """The picked images, in the order in which they were picked."""
    rows = np.array(list(picked), np.int64)
    table = sources.locate(train, ensemble.deal, rows)
    heats, framing = (
        _heats(ensemble, table, ensemble.deal.fold[rows], device),
        ResizePolicy.of(ensemble.members[0].config.model),
    )
    exhibits = []
    with console.bar("looking closely", len(rows)) as bar:
        for place, row in enumerate(rows.tolist()):
            pixels = decode.read(table.path(place))
            about = str(ensemble.deal.img_name[row]), int(ensemble.deal.fold[row]), int(ensemble.deal.target[row])
            seen = pixels if framing.resize == "squash" else framing.frame(pixels)  # the heat lies over what was seen
            shown = gallery.picture(seen), gallery.overlay(heats[place]), gallery.looked(pixels)
            exhibits.append(Exhibit(*about, float(ensemble.choice.y_pred[row]), picked[row], *shown))
            bar.advance()
    return exhibits


def _heats(ensemble: Ensemble, table: Table, fold_of: np.ndarray, device: str) -> np.ndarray:
    """What spoke for the side that the first experiment's networks took: float32 [n, h, w]."""
    from ffdi.models import detector
    from ffdi.training.runtime import device as devices
    from ffdi.training.tools import gradcam

    where = devices.choose(device, None, 0)
    console.say(f"device: {where.why}")
    heats = np.zeros((len(table), gradcam.EDGE, gradcam.EDGE), np.float32)
    with console.bar("heat maps", len(table)) as bar:
        for member in (one for one in ensemble.members if one.experiment == ensemble.experiments[0]):
            framing = ResizePolicy.of(member.config.model)
            network = where.prepare(detector.load(member.config.model, member.folder.weights_path))
            rows = np.flatnonzero(fold_of == member.folder.fold)
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                seen = np.stack([framing.load(table.path(row)) for row in part])
                heats[part] = gradcam.compute_heat_map(network, seen, where)
                bar.advance(len(part))
    return heats


def _page(name: str, ensemble: Ensemble, exhibits: Sequence[Exhibit], counts: Mapping[str, int]) -> Page:
    """Everything in its order."""
    experiments, k = ensemble.experiments, len({member.folder.fold for member in ensemble.members})
    scored = sections.out_of_fold(ensemble)
    val = {one.name: found for one in experiments if (found := scores.on_val(one, list(range(k))))}
    pooled = ensemble.oof()
    best = ", ".join(f"{one}: out-of-fold AUC {oof['auc']:.4f}" for one, oof in pooled.items())
    fakes = int(ensemble.deal.target.sum())
    return Page(
        name,
        [best, f"{len(ensemble.deal.target)} training images, {fakes} of them fake; {k} folds; ffdi {__version__}."],
        [
            sections.scores(ensemble),
            sections.separation(scored, {name: _mean(ledgers) for name, ledgers in val.items()}),
            sections.curves(experiments, k),
            sections.agreement(ensemble, val),
            sections.kinds(experiments),
            sections.findings(experiments[0]),
        ],
        exhibits,
        counts,
        f"Heat maps show what spoke for the side that {experiments[0].name}'s network took (HiResCAM).",
        [sections.origin(experiments)],
        sections.texts(experiments),
    )


def _mean(ledgers: Sequence[OofPredictions]) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the scores of all folds' networks together by their mean."""
    return ledgers[0].target, np.mean([sigmoid(one.logit) for one in ledgers], axis=0)
