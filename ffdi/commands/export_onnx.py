"""Exports all folds into one ONNX graph, and checks its scores."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi.commands.shared import groups, scorers, sources, teachers
from ffdi.commands.shared.options import ExportOnnxOptions
from ffdi.core import console, files, machine, manifests
from ffdi.core.errors import ExperimentError, format_count
from ffdi.data.images import cache
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.table import Table
from ffdi.ensemble.ensemble import Ensemble
from ffdi.experiments.export import ExportFolder
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.export.equivalence import EquivalenceCheck
    from ffdi.export.onnx import Graph

TIMED_IMAGES = 32
"""Images of a call that compares the speeds of two graphs."""


def run(workspace: Workspace, options: ExportOnnxOptions) -> None:
    """Exports all folds into one ONNX graph; publishes it only if its scores equal the networks' scores."""
    from ffdi.export import equivalence, quantize, replacement
    from ffdi.inference import bundle, select

    members, name = groups.resolve_experiments(workspace, options.experiment, options.name)
    groups.write_group_variants(workspace, options.experiment)
    export = workspace.get_export(members, name)
    quantize.check_precision(options.precision)
    runtimes = equivalence.choose_runtimes(options.runtimes, options.precision)
    ensemble = Ensemble.from_experiments([workspace.get_experiment(one) for one in members])
    ensemble.check_exportable()
    found = sources.find_ensemble_dataset(workspace, ensemble, options.data)
    check = equivalence.choose_equivalence_check(ensemble, found, soup=options.soup)
    with export.lock():
        console.title(f"export-onnx {export.name}: {_describe_networks(ensemble, options)}")
        _warn_of_replacement(export, options)
        compared = _compare_with_teachers(workspace, export, ensemble, found)
        with export.publish(export.model_path.name) as new:
            kind, records = _write(new, ensemble, found, check, options, runtimes, workspace.engines_folder)
            described = bundle.describe_export(new, ensemble, kind, options.soup, records)
            if compared is not None:
                replacement.check_with_precision(compared, records[select.PLAIN])
                described["replaces"] = compared = {**compared, **_compare_speeds(export, new, ensemble.resize_policy)}
            manifests.write_manifest(new.bundle_path, described)
    scorers.mark_vetted(workspace, export, described)
    _show(export, kind, records)
    if compared is not None:
        _show_comparison(compared)
    _show_licences(ensemble)
    command = "predict-onnx" if {"test", "val"} & set(found.splits) else "serve"
    console.advise(f"invoke {command}{groups.repeat_flags(options.experiment, name)}")


def _write(
    export: ExportFolder,
    ensemble: Ensemble,
    found: Dataset,
    check: EquivalenceCheck,
    options: ExportOnnxOptions,
    runtimes: Sequence[str],
    engines: Path,
) -> tuple[str, dict[str, dict[str, Any]]]:
    """Writes the graph and its files; returns its precision, and the measurements of each runtime."""
    from ffdi.export import equivalence, onnx, quantize
    from ffdi.inference import bundle
    from ffdi.inference.backend import Setup

    networks = _load_networks(ensemble)
    some = check.table.take(equivalence.spread_rows(len(check.table), bundle.GOLDEN_IMAGES))
    real = _load_pixels(some, ensemble.resize_policy)
    expected = networks.score(real)
    exact = options.precision == "fp32" and not options.soup and not ensemble.enlarges_images
    trial = equivalence.RuntimeVerifier(
        ensemble.resize_policy,
        exact,
        real,
        expected,
        check,
        machine.count_cores(),
        Setup(options.precision, engines=engines),
    )
    model = onnx.convert_to_onnx(
        _average_folds(ensemble, found, options.device) if options.soup else networks, ensemble.resize_policy.size
    )

    def attempt(kind: str, path: Path, folder: Path) -> equivalence.Candidate:
        converted = quantize.convert(kind, model, lambda: _load_calibration_images(found, ensemble.resize_policy))
        onnx.save_graph(converted, path, bundle.build_metadata(ensemble, kind, options.soup))
        if check.output == bundle.OUTPUT:
            return equivalence.Candidate(kind, path, path)
        onnx.save_graph(converted, judged := folder / "judged.onnx", {}, output=check.output)
        return equivalence.Candidate(kind, path, judged)

    with files.open_atomic(export.model_path) as path, tempfile.TemporaryDirectory() as elsewhere:
        attempts = [partial(attempt, kind, path, Path(elsewhere)) for kind in quantize.PRECISIONS[options.precision]]
        chosen, records = equivalence.verify_first(trial, attempts, runtimes)
    bundle.write_golden(export.golden_path, some, expected)
    files.write_text(export.script_path, _read_script())
    return chosen.kind, records


def _warn_of_replacement(export: ExportFolder, options: ExportOnnxOptions) -> None:
    """Warns if the folder has a graph of another precision, or if only one of the two graphs is a soup."""
    if not export.bundle_path.is_file():
        return
    with suppress(ExperimentError, KeyError):  # a damaged one is replaced anyway
        found = manifests.read_manifest(export.bundle_path)
        before = _name_kind(found["precision"], soup=found["soup"])
        after = _name_kind(options.precision, soup=options.soup)
        if before != after:
            console.warn(
                f"{export.folder} has a graph of {before}, and this one of {after} takes its place; to keep both, stop "
                f"and pass --name {shlex.quote(f'{export.name}-{options.precision}')}"
            )


def _name_kind(precision: str, *, soup: bool) -> str:
    return f"{precision}, a soup" if soup else precision


def _compare_with_teachers(
    workspace: Workspace, export: ExportFolder, ensemble: Ensemble, found: Dataset
) -> dict[str, Any] | None:
    """The scores of a student and of its teachers, if the folder has their graph or a student in its place; else None.

    Raises:
        ParityError: the student is not as good.
    """
    from ffdi.export import replacement

    words = ensemble.members[0].config.distill.teachers
    if not words or len(ensemble.experiments) > 1 or not export.bundle_path.is_file():
        return None
    names, described = [Path(word).name for word in words], manifests.read_manifest(export.bundle_path)
    replaced = described["replaces"]["names"] if "replaces" in described else []
    if set(names) not in ({one["experiment"] for one in described["members"]}, set(replaced)):
        return None
    scores = replacement.match_scores(teachers.load_teachers(workspace, words), ensemble, found)
    return {"names": names, **replacement.check_scores(scores)}


def _compare_speeds(before: ExportFolder, after: ExportFolder, resize_policy: ResizePolicy) -> dict[str, Any]:
    """Images per second of the teachers' graph and of the student's on this machine; nothing if the first is gone."""
    from ffdi.export import replacement
    from ffdi.inference import bundle

    described = bundle.read_bundle(before)
    if "replaces" in described:
        return {}
    graphs = [(before.model_path, bundle.read_resize_policy(described)), (after.model_path, resize_policy)]
    speeds = replacement.measure_speeds(graphs, TIMED_IMAGES, machine.count_cores())
    return {"images_per_second": dict(zip(("teachers", "student"), speeds, strict=True))}


def _describe_networks(ensemble: Ensemble, options: ExportOnnxOptions) -> str:
    networks = format_count(len(ensemble.members), "network")
    soup = f" as {len(ensemble.experiments)}" if options.soup else ""
    return f"{networks}{soup} in one graph of {options.precision}, {ensemble.resize_policy.size} px"


def _load_networks(ensemble: Ensemble) -> Graph:
    """All folds' networks in fp32."""
    from ffdi.export.onnx import Graph
    from ffdi.models import detector

    size = ensemble.resize_policy.size
    members = {
        f"{member.experiment.name}.{member.folder.folder.name}": detector.load_scorer(member, size)
        for member in ensemble.members
    }
    return Graph(members, ensemble.weights, ensemble.choice.combination, ensemble.calibration).eval()


def _average_folds(ensemble: Ensemble, found: Dataset, device_flag: str) -> Graph:
    """One network for each experiment: the mean of its folds' weights."""
    from ffdi.export.onnx import Graph
    from ffdi.models import detector
    from ffdi.training import fold
    from ffdi.training.runtime import device as devices
    from ffdi.training.tools import soup

    device = devices.choose_device(device_flag, None, 0)
    members = {}
    for experiment in ensemble.experiments:
        folds = [member for member in ensemble.members if member.experiment == experiment]
        config = folds[0].config
        detectors = [detector.load_detector(config.model, member.folder.weights_path) for member in folds]
        batches = fold.make_eval_batches(_sample_training(found, soup.IMAGES), config, device)
        average = soup.average_weights(detectors, batches, device)
        members[f"{experiment.name}.soup"] = detector.prepare_for_inference(
            average, config, ensemble.resize_policy.size
        )
    weights = ensemble.choice.combination.spread_weights([1] * len(members))
    return Graph(members, weights, ensemble.choice.combination, ensemble.calibration).eval()


def _sample_training(found: Dataset, most: int) -> Table:
    from ffdi.export import equivalence

    train = found.split("train")
    return train.take(equivalence.spread_rows(len(train), most))


def _load_calibration_images(found: Dataset, resize_policy: ResizePolicy) -> np.ndarray:
    """uint8 [N, S, S, 3]: training images for the calibration of int8."""
    from ffdi.export import quantize

    return _load_pixels(_sample_training(found, quantize.CALIBRATION_IMAGES), resize_policy)


def _load_pixels(table: Table, resize_policy: ResizePolicy) -> np.ndarray:
    """uint8 [N, S, S, 3]."""
    return np.stack([cache.read_resized(table, row, resize_policy) for row in range(len(table))])


def _read_script() -> str:
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
        console.say(
            f"{name}: largest difference of y_pred from torch {worst:.1e}{_describe_scores(record.get('gate'))}"
        )
    console.written(export.model_path, about=f" ({kind}, {export.model_path.stat().st_size / 2**20:.1f} MiB)")
    console.written(export.script_path, about=" (one image in, one score out, without ffdi)")


def _show_licences(ensemble: Ensemble) -> None:
    """Says which licences the starting weights have: the graph has weights that come from them."""
    from ffdi.models import weights

    found = dict.fromkeys(weights.find_licence(member.config.model) for member in ensemble.members)
    for licence in found:
        if licence is None:
            continue
        if licence.is_free:
            console.say(f"licence: {licence.whose} have {licence.name}")
        elif licence.name:
            console.warn(
                f"licence: {licence.whose} have {licence.name}, which also holds for this export: read it first"
            )
        else:
            console.say(f"licence: that of {licence.whose}, which ffdi does not know, also holds for this export")


def _show_comparison(compared: dict[str, Any]) -> None:
    """The scores and the speeds of a student in the place of its teachers."""
    auc, tpr = compared["auc"], compared["tpr_at_fpr_1e-3"]
    console.say(
        f"in place of {' + '.join(compared['names'])}: on {compared['images']} AUC {auc['teachers']:.4f} -> "
        f"{auc['student']:.4f}, TPR at FPR 1e-3 {tpr['teachers']:.3f} -> {tpr['student']:.3f}"
    )
    if (speed := compared.get("images_per_second")) is not None:
        console.say(
            f"images/s on ONNX Runtime's CPU, without decoding: {speed['teachers']:.1f} -> {speed['student']:.1f}, "
            f"{speed['student'] / speed['teachers']:.1f} times as many"
        )


def _describe_scores(record: dict[str, Any] | None) -> str:
    """The scores of a graph that is not exact."""
    if record is None:
        return ""
    auc, tpr = record["auc"], record["tpr_at_fpr_1e-3"]
    return (
        f"; on {format_count(record['images'], record['split'] + ' image')} AUC {auc['fp32']:.4f} "
        f"-> {auc['here']:.4f}, "
        f"TPR at FPR 1e-3 {tpr['fp32']:.3f} -> {tpr['here']:.3f}"
    )
