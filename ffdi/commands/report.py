"""Writes one page about experiments: scores, charts, example images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ffdi import __version__
from ffdi.commands.shared import groups, lineage, scores, sources
from ffdi.commands.shared.options import ReportOptions
from ffdi.core import console, files
from ffdi.core.errors import format_count
from ffdi.data.images import decode
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation.predictions import OofPredictions, sigmoid
from ffdi.experiments.workspace import Workspace
from ffdi.reporting import gallery, headlines, sections
from ffdi.reporting.gallery import Exhibit
from ffdi.reporting.headlines import Step, Tile
from ffdi.reporting.page import Page
from ffdi.reporting.sections import LineageRow

BATCH = 16
"""Images in a batch of heat maps."""


def run(workspace: Workspace, options: ReportOptions) -> None:
    """Writes report.html: scores, charts, example images, configs and provenance."""
    members, name = groups.resolve_experiments(workspace, options.experiment, options.name)
    export = workspace.get_export(members, name)
    ensemble = Ensemble.from_experiments([workspace.get_experiment(one) for one in members])
    train = sources.find_ensemble_dataset(workspace, ensemble, options.data).split("train")
    files.check_writable(export.report_path)
    networks, images = len(ensemble.members), len(ensemble.assignment.target)
    console.title(f"report {export.name}: {format_count(networks, 'network')}, {images} images")
    picked = gallery.pick_images(ensemble.assignment.target, ensemble.choice.y_pred)
    exhibits, method = _make_exhibits(ensemble, train, picked, options.device)
    rows = lineage.list_lineage(workspace, ensemble)
    flags = groups.repeat_flags(options.experiment, name)
    first = headlines.build_tiles(ensemble, export), headlines.list_next_steps(ensemble, export, flags)
    page = _make_page(export.name, ensemble, first, rows, exhibits, gallery.count_kinds(picked), method)
    with export.lock():
        files.write_text(export.report_path, page.render())
    size = export.report_path.stat().st_size / 1e6
    console.written(export.report_path, about=f" ({len(exhibits)} images, {size:.1f} MB): open it in a browser")
    console.advise(f"invoke ensemble-submit{flags}")


def _make_exhibits(
    ensemble: Ensemble, train: Table, picked: Mapping[int, list[str]], device: str
) -> tuple[list[Exhibit], str]:
    """The picked images with their heat maps, in the same order, and the method of the heat maps."""
    rows = np.array(list(picked), np.int64)
    table = sources.select_images(train, ensemble.assignment, rows)
    assignment = ensemble.assignment
    heats, method = _compute_heat_maps(ensemble, table, assignment.fold[rows], device)
    resize_policy = ResizePolicy.from_config(ensemble.members[0].config.model)
    exhibits = []
    with console.bar("example images", len(rows)) as bar:
        for place, row in enumerate(rows.tolist()):
            pixels = decode.read_image(table.path(place))
            about = str(assignment.img_name[row]), int(assignment.fold[row]), int(assignment.target[row])
            # the heat map covers the resized image
            seen = pixels if resize_policy.resize == "squash" else resize_policy.apply(pixels)
            shown = gallery.encode_picture(seen), gallery.encode_overlay(heats[place]), gallery.render_views(pixels)
            exhibits.append(Exhibit(*about, float(ensemble.choice.y_pred[row]), picked[row], *shown))
            bar.advance()
    return exhibits, method


def _compute_heat_maps(
    ensemble: Ensemble, table: Table, fold_of: np.ndarray, device_flag: str
) -> tuple[np.ndarray, str]:
    """The evidence of the first experiment's networks for their class, float32 [n, h, w], and the method."""
    from ffdi.models import detector
    from ffdi.training.runtime import device as devices
    from ffdi.training.tools import gradcam

    device = devices.choose_device(device_flag, None, 0)
    console.say(f"device: {device.why}")
    heats, method = np.zeros((len(table), gradcam.EDGE, gradcam.EDGE), np.float32), "HiResCAM"
    config, identity = ensemble.experiments[0].load_training()
    resize_policy = ResizePolicy.from_config(config.model)
    with console.bar("heat maps", len(table)) as bar:
        for folder in ensemble.experiments[0].list_finished_folds(config.folds.k, identity):
            network = device.prepare(detector.load_detector(config.model, folder.weights_path))
            layer = gradcam.find_layer(network, resize_policy.size)
            if layer is None:
                method = "gradient times input, because the backbone has no single map of features"
            rows = np.flatnonzero(fold_of == folder.fold)
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                seen = np.stack([resize_policy.load(table.path(row)) for row in part])
                heats[part] = gradcam.compute_heat_map(network, seen, device, layer)
                bar.advance(len(part))
    return heats, method


def _make_page(
    name: str,
    ensemble: Ensemble,
    first: tuple[Sequence[Tile], Sequence[Step]],
    rows: Sequence[LineageRow],
    exhibits: Sequence[Exhibit],
    counts: Mapping[str, int],
    method: str,
) -> Page:
    experiments, k = ensemble.experiments, ensemble.members[0].config.folds.k
    scored = sections.collect_oof_scores(ensemble)
    val = {one.name: found for one in experiments if (found := scores.read_val_predictions(one, list(range(k))))}
    target = ensemble.assignment.target
    return Page(
        name,
        [f"{len(target)} training images, {target.sum()} of them fake; {k} folds; ffdi {__version__}."],
        *first,
        [
            sections.build_scores(ensemble, rows),
            sections.build_separation(scored, {name: _average_scores(parts) for name, parts in val.items()}),
            sections.build_curves(experiments, k),
            sections.build_agreement(ensemble, val),
            sections.build_kinds(experiments),
            sections.build_findings(experiments[0]),
        ],
        exhibits,
        counts,
        f"Heat maps show the evidence of {experiments[0].name}'s network for the class that it chose ({method}).",
        [sections.build_origin(experiments)],
        sections.collect_configs(experiments),
    )


def _average_scores(parts: Sequence[OofPredictions]) -> tuple[np.ndarray, np.ndarray]:
    """The labels, and the mean score of all folds' networks."""
    return parts[0].target, np.mean([sigmoid(one.logit) for one in parts], axis=0)
