"""Writes one page about experiments: scores, charts, example images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ffdi import __version__
from ffdi.commands.shared import groups, inspection, lineage, live_pages, reconstructions, scores, sources
from ffdi.commands.shared.options import DeviceOptions, ReportOptions
from ffdi.config import schema
from ffdi.core import console, files
from ffdi.core.errors import format_count
from ffdi.data.inspection.scan import ScanResult
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import error_analysis
from ffdi.evaluation.predictions import OofPredictions, sigmoid
from ffdi.experiments.export import ExportFolder
from ffdi.experiments.workspace import Workspace
from ffdi.reporting import gallery, headlines, image_map, kinds, pairs, sections, thresholds
from ffdi.reporting.image_map import ImageMap
from ffdi.reporting.page import Gallery, Page, Section
from ffdi.reporting.pairs import Pair

if TYPE_CHECKING:
    from ffdi.training.runtime.device import Device


def run(workspace: Workspace, options: ReportOptions) -> None:
    """Writes report.html: scores, charts, example images, configs and provenance; or follows a training."""
    if options.live:
        live_pages.follow(workspace, options)
        return
    members, name = groups.resolve_experiments(workspace, options.experiment, options.name)
    export = workspace.get_export(members, name)
    ensemble = Ensemble.from_experiments([workspace.get_experiment(one) for one in members])
    train = sources.find_ensemble_dataset(workspace, ensemble, options.data).split("train")
    table = sources.select_images(train, ensemble.assignment)
    files.check_writable(export.report_path)
    networks, images = len(ensemble.members), len(table)
    console.title(f"report {export.name}: {format_count(networks, 'network')}, {format_count(images, 'image')}")
    scan, flags = inspection.scan_table(workspace, table), groups.repeat_flags(options.experiment, name)
    page = _make_page(workspace, export, ensemble, scan, options, flags)
    with export.lock():
        files.write_text(export.report_path, page.render())
    size = export.report_path.stat().st_size / 1e6
    shown = format_count(len(page.gallery.exhibits), "example image")
    console.written(export.report_path, about=f" ({shown}, {size:.1f} MB): open it in a browser")
    console.advise(f"invoke ensemble-submit{flags}")


def _make_page(
    workspace: Workspace,
    export: ExportFolder,
    ensemble: Ensemble,
    scan: ScanResult,
    options: ReportOptions,
    flags: str,
) -> Page:
    from ffdi.training.runtime import device as devices

    experiments, k = ensemble.experiments, ensemble.members[0].config.folds.k
    target, y_pred = ensemble.assignment.target, ensemble.choice.y_pred
    val = {one.name: found for one in experiments if (found := scores.read_val_predictions(one, list(range(k))))}
    compared = pairs.compare_with_best(ensemble)
    device = devices.choose_device(options.device, None, 0)
    console.say(f"device: {device.why}")
    shown, drawn = _show_images(ensemble, scan, compared, device)
    return Page(
        export.name,
        [_describe(target, k)],
        headlines.build_tiles(ensemble, export),
        headlines.list_next_steps(ensemble, export, flags),
        thresholds.count_errors(target, y_pred),
        [
            sections.build_scores(ensemble, lineage.list_lineage(workspace, ensemble)),
            *([pairs.build_comparison(compared)] if compared else []),
            sections.build_separation(
                sections.collect_oof_scores(ensemble), {name: _average_scores(parts) for name, parts in val.items()}
            ),
            sections.build_curves(experiments, k),
            _build_kinds(ensemble, scan),
        ],
        shown,
        drawn,
        [
            _build_batch(workspace, ensemble, scan, options, device),
            sections.build_agreement(ensemble, val),
            sections.build_findings(experiments[0]),
            sections.build_origin(experiments),
        ],
        sections.collect_configs(experiments),
    )


def _describe(target: np.ndarray, k: int) -> str:
    images, folds = format_count(len(target), "training image"), format_count(k, "fold")
    return f"{images}, {target.sum()} of them fake; {folds}; ffdi {__version__}."


def _show_images(
    ensemble: Ensemble, scan: ScanResult, compared: Sequence[Pair], device: Device
) -> tuple[Gallery, ImageMap]:
    """The example images, and the map of all images."""
    from ffdi.reporting import exhibits

    target, y_pred, words = ensemble.assignment.target, ensemble.choice.y_pred, dict(gallery.KINDS)
    more: dict[str, np.ndarray] = {}
    for pair in compared[: pairs.MAX_PAIRS]:
        words |= pair.kinds
        more |= pair.picked
    seed = ensemble.members[0].config.seed
    features = image_map.compute_features(scan.fingerprint, seed)
    suspect = error_analysis.find_label_errors(target, y_pred, features)
    picked = gallery.pick_images(target, y_pred, suspect, more)
    made, method = exhibits.make_exhibits(ensemble, scan.table, picked, device)
    heat = (
        f"Heat maps show the evidence of {ensemble.experiments[0].name}'s network for the class that it chose "
        f"({method}), all on one scale."
    )
    return Gallery(made, words, heat), exhibits.make_map(ensemble, scan.table, features, list(picked), seed)


def _build_kinds(ensemble: Ensemble, scan: ScanResult) -> Section:
    from ffdi.reporting import exhibits

    return kinds.build_kinds(ensemble, exhibits.make_thumbnails(scan.table, kinds.list_examples(ensemble)))


def _build_batch(
    workspace: Workspace, ensemble: Ensemble, scan: ScanResult, options: DeviceOptions, device: Device
) -> Section:
    """A small batch as a training shows it to the network."""
    from ffdi.reporting import exhibits

    config, rows = schema.load_experiment(ensemble.experiments[0].config_path), ensemble.assignment.fold != 0
    table, _ = reconstructions.add_reconstructions(workspace, config.pseudo_fakes, scan.table, scan.sha256, options)
    line = (
        f"A batch of images of fold 0 of {ensemble.experiments[0].name} as its network gets them: drawn by "
        f"train.sampling, resized, with augment.recipe = '{config.augment.recipe}', and before mixup or cutmix."
    )
    shown = exhibits.show_training_batch(config, table.take(np.flatnonzero(rows)), device)
    return Section("What the network is shown", [line], pictures=shown)


def _average_scores(parts: Sequence[OofPredictions]) -> tuple[np.ndarray, np.ndarray]:
    """The labels, and the mean score of all folds' networks."""
    return parts[0].target, np.mean([sigmoid(one.logit) for one in parts], axis=0)
