"""The story from top to bottom: what each verb does, in order. Only this file talks to a person.

torch takes seconds to import and serving does without it, so the rooms that need it are opened where they are used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi import __version__, config, console, provenance, publish
from ffdi.blend import Blend, export_name
from ffdi.config import Config
from ffdi.data import dataset, doctor
from ffdi.data import table as tables
from ffdi.data.dataset import Dataset
from ffdi.data.table import Table
from ffdi.errors import ConfigError, DataError
from ffdi.experiment import Experiment, Identity, Workspace
from ffdi.scoring import ensemble, ledger, scorecard, submission
from ffdi.scoring.ledger import Ledger

if TYPE_CHECKING:
    from ffdi.training.device import Device
    from ffdi.training.fold import Plan

DEMO = "data/quickstart"
"""The data root that is made on first use."""


# --- train-folds ---------------------------------------------------------------------------------------------------


def train_folds(
    workspace: Workspace,
    name: str,
    *,
    data: str | None,
    folds: str | None,
    device: str,
    workers: int | None,
    fresh: bool,
) -> None:
    """Trains an experiment's folds, those that are not finished, and scores them out of fold."""
    from ffdi.training import device as devices

    experiment = workspace.experiment(name)
    settings = config.load(experiment.config_path)
    chosen = _chosen_folds(folds, settings.folds.k)
    weights = _check_choices(settings, workspace)
    where = devices.choose(device, settings.train.precision, workers)
    console.title(f"train-folds {experiment.name}: {settings.model.backbone}, {settings.folds.k} folds")
    console.say(f"device: {where.why}")

    found = dataset.find(_data_root(workspace, settings, data), settings.data)
    train = found.split("train")
    assert train.target is not None
    console.say(f"data: {_counts(train)}")
    identity = Identity.of(settings, weights and publish.sha256(weights), _examined(train, devices.cores()))
    with experiment.locked():
        if fresh:
            experiment.discard()
        plan = _plan(experiment, settings, identity, found, weights)
        _train_missing(experiment, plan, chosen, where)
        _gather(experiment, plan)


def _chosen_folds(asked: str | None, k: int) -> list[int]:
    if asked is None:
        return list(range(k))
    words = [word.strip() for word in asked.split(",")]
    if not all(word.isdecimal() and int(word) < k for word in words):
        raise ConfigError(f"--folds {asked}: this experiment has folds 0 to {k - 1}", hint="pass --folds 0,1")
    return sorted({int(word) for word in words})


def _check_choices(settings: Config, workspace: Workspace) -> Path | None:
    """Refuses what no dictionary knows, before anything is read or written; gives the starting weights."""
    from ffdi.data import augment
    from ffdi.training import detector, recipe
    from ffdi.training import weights as starting

    augment.recipe(settings.augment.recipe)
    recipe.check(settings.train)
    ensemble.method(settings.ensemble.method)
    weights = starting.find(settings.model, workspace.root)
    detector.build(settings.model, weights)
    return weights


def _plan(experiment: Experiment, settings: Config, identity: Identity, found: Dataset, weights: Path | None) -> Plan:
    """Deals the folds, or reads how they were dealt, and records what is about to be trained."""
    from ffdi.data import folds
    from ffdi.training.fold import Plan

    train = found.split("train")
    assert train.target is not None
    if experiment.resolved_path.is_file():
        experiment.check(identity)
    dealt = experiment.folds_path.is_file()
    fold_of = (
        folds.read(experiment.folds_path, train, settings.folds.k)
        if dealt
        else folds.assign(train.target, train.group, settings.folds.k, settings.seed)
    )
    experiment.begin(identity, provenance.record(found.root, sys.argv))
    if not dealt:
        publish.text(experiment.folds_path, folds.to_csv(train, fold_of))
    return Plan(settings, identity, train, fold_of, publish.sha256(experiment.folds_path), weights)


def _train_missing(experiment: Experiment, plan: Plan, chosen: list[int], device: Device) -> None:
    from ffdi.engines import local
    from ffdi.training.fit import Step

    folders = [experiment.fold(fold) for fold in chosen]
    missing = experiment.unfinished(chosen, plan.identity)
    for folder in folders:
        if folder not in missing:
            console.say(f"fold {folder.fold}: finished before, kept")
    epochs, done = plan.config.train.epochs, 0
    with console.bar("training", len(missing) * epochs, counted=False) as bar:
        for folder, event in local.run(plan, missing, device):
            if isinstance(event, Step):
                part = (event.step + 1) / event.steps
                bar.at(done + part, f"fold {folder.fold}  epoch {event.epoch + 1}/{epochs}")
                continue
            done += 1
            bar.say(
                f"fold {folder.fold}  epoch {event.epoch + 1:>2}/{epochs}  loss {event.train_loss:.4f}  "
                f"held out: loss {event.val_loss:.4f}  accuracy {event.val_accuracy:.4f}  AUC {event.val_auc:.4f}  "
                f"{event.images_per_second:.0f} images/s"
            )


def _gather(experiment: Experiment, plan: Plan) -> None:
    """Joins the folds' predictions into oof.csv and metrics.json, once all folds are there."""
    k = plan.config.folds.k
    if missing := experiment.unfinished(range(k), plan.identity):
        numbers = ", ".join(str(folder.fold) for folder in missing)
        console.say(f"still to train: fold {numbers}; out-of-fold scores need all {k}")
        return
    parts = [ledger.read(experiment.fold(fold).oof_path) for fold in range(k)]
    assert plan.train.target is not None
    oof = ledger.merge(parts, plan.train.img_name, plan.fold_of, plan.train.target)
    publish.text(experiment.oof_path, oof.to_csv())
    _score(experiment, oof, plan.train.group)
    console.say(f"written: {experiment.oof_path}, {experiment.metrics_path}")
    console.say(f"next: invoke ensemble-submit --experiment {experiment.name}")


def _score(experiment: Experiment, oof: Ledger, group: np.ndarray | None) -> None:
    """Draws up metrics.json from a ledger, and shows it."""
    scores = {"experiment": experiment.name, **scorecard.draw_up(oof, group)}
    publish.document(experiment.metrics_path, scores)
    rows = [(f"fold {fold}", score) for fold, score in scores["folds"].items()]
    _show_scores("out-of-fold scores", [*rows, ("all folds", scores["pooled"])])
    ranked = scores["rank_normalised"]
    console.say(f"AUC of ranks within each fold: {ranked['auc']:.4f} ({_interval(ranked)})")


# --- score ---------------------------------------------------------------------------------------------------------


def score(workspace: Workspace, name: str) -> None:
    """Draws up an experiment's scores anew from folds.csv and oof.csv alone."""
    from ffdi.data import folds

    experiment = workspace.experiment(name)
    experiment.check_scored()
    with experiment.locked():
        deal = folds.recorded(experiment.folds_path)
        oof = ledger.merge([ledger.read(experiment.oof_path)], deal.img_name, deal.fold, deal.target)
        console.title(f"score {experiment.name}: {len(oof.img_name)} out-of-fold predictions")
        _score(experiment, oof, deal.group)
    console.say(f"written: {experiment.metrics_path}")


# --- ensemble-submit -----------------------------------------------------------------------------------------------


def ensemble_submit(
    workspace: Workspace,
    names: Sequence[str],
    *,
    data: str | None,
    split: str,
    device: str,
    workers: int | None,
    name: str | None,
) -> None:
    """Averages all folds' predictions on the test images into a submission; scores what has labels exactly."""
    from ffdi.training import device as devices

    export = workspace.export(export_name(names, name))
    blend = Blend.of([workspace.experiment(one) for one in names])
    found = _dataset(blend, data)
    asked = _predicted_split(found, split)
    template = submission.read_template(found.template) if found.template else asked.img_name.tolist()
    where = devices.choose(device, None, workers)
    publish.check_writable(export.submission_path)
    console.title(f"ensemble-submit {export.name}: {len(blend.members)} networks, {len(asked)} {asked.split} images")
    console.say(f"device: {where.why}")

    logits = _logits(blend, asked, where)
    content = submission.build(template, asked.img_name, blend.combine(logits))
    scores = {asked.split: _exact_score(blend, asked, logits)}
    val = found.splits.get("val")
    if val is not None and val.split != asked.split and val.target is not None:
        scores["val"] = _exact_score(blend, val, _logits(blend, val, where))

    publish.text(export.submission_path, content)
    record = {
        "split": asked.split,
        "rows": len(asked),
        "sha256": publish.sha256(export.submission_path),
        "method": blend.method,
        "members": blend.describe(),
        "oof": blend.oof(),
        "scores": {split: score for split, score in scores.items() if score},
        "version": __version__,
    }
    publish.document(export.submission_record_path, record)
    console.say(f"written: {export.submission_path} ({len(asked)} rows)")
    console.say(f"next: invoke export-onnx{_again(names, name)}")


def _predicted_split(found: Dataset, asked: str) -> Table:
    """The test split where there is one, else (phase 1) the validation split."""
    if asked == "auto":
        return found.split("test" if "test" in found.splits or "val" not in found.splits else "val")
    if asked not in dataset.SPLITS:
        raise ConfigError(f"--split {asked}: known: auto, {', '.join(dataset.SPLITS)}", hint="pass --split auto")
    return found.split(asked)


def _logits(blend: Blend, table: Table, device: Device) -> np.ndarray:
    """float32 [M, N]; each image is decoded once for each input size."""
    from ffdi.training import detector, fold, predict

    result = np.empty((len(blend.members), len(table)), np.float32)
    sizes = blend.sizes
    with console.bar(f"{table.split} images", len(table) * len(set(sizes))) as bar:
        for size in sorted(set(sizes)):
            rows = [row for row, one in enumerate(sizes) if one == size]
            networks = [device.prepare(detector.scorer(blend.members[row])).eval() for row in rows]
            start = 0
            for part in predict.logits(networks, fold.reader(table, blend.members[rows[0]].config, device), device):
                result[rows, start : start + part.shape[1]] = part
                start += part.shape[1]
                bar.advance(part.shape[1])
    return result


def _exact_score(blend: Blend, table: Table, logits: np.ndarray) -> dict[str, Any] | None:
    """The score on a split whose labels are known; None without labels."""
    if table.target is None:
        return None
    if not table.both_classes:
        console.say(f"{table.source} has labels of one class only: no score")
        return None
    score = blend.evaluate(table.target, logits)
    rows = [(f"{name} out of fold", oof) for name, oof in blend.oof().items()]
    rows += [*score["members"].items(), ("mean of the folds", score["mean"]), ("ensemble", score["ensemble"])]
    _show_scores(f"exact score on the {table.split} split", rows)
    return score


# --- export-onnx ---------------------------------------------------------------------------------------------------


def export_onnx(workspace: Workspace, names: Sequence[str], *, data: str | None, name: str | None) -> None:
    """Puts all folds into one ONNX graph, and keeps it only if it gives the networks' answers on real images."""
    from ffdi.deploy import bundle, parity, runtime
    from ffdi.deploy import export as exporter
    from ffdi.training import detector

    export = workspace.export(export_name(names, name))
    blend = Blend.of([workspace.experiment(one) for one in names])
    size = blend.one_size()
    real = parity.real_images(next(iter(_dataset(blend, data).splits.values())), size)
    console.title(f"export-onnx {export.name}: {len(blend.members)} networks in one graph")
    graph = exporter.Graph(
        [detector.scorer(member) for member in blend.members], blend.weights, ensemble.method(blend.method)
    ).eval()
    with publish.writing(export.model_path) as beside:
        exporter.to_onnx(graph, size, beside, {"ffdi": __version__, bundle.OUTPUT: bundle.MEANING})
        differences = parity.measure(graph.score, runtime.open_graph(beside).run, real)
        parity.check(differences)
        export.bundle_path.unlink(missing_ok=True)  # the old description is not this graph's
    publish.document(export.bundle_path, bundle.describe(export, blend, differences))
    shown = ", ".join(f"{value:.1e} at batch {batch}" for batch, value in differences.items())
    console.say(f"parity with torch on {len(real)} real images: largest difference of y_pred {shown}")
    console.say(f"written: {export.model_path} ({export.model_path.stat().st_size / 2**20:.1f} MiB)")
    console.say(f"next: invoke predict-onnx{_again(names, name)} --images FOLDER")


# --- predict-onnx --------------------------------------------------------------------------------------------------


def predict_onnx(
    workspace: Workspace,
    names: Sequence[str],
    *,
    images: str | None,
    data: str | None,
    split: str,
    output: str | None,
    device: str,
    name: str | None,
) -> None:
    """Scores images with an exported graph, without torch."""
    from ffdi.deploy import bundle, infer, runtime

    export = workspace.export(export_name(names, name))
    described = bundle.read(export)
    table = _images(workspace, names, images, data, split)
    path = Path(output) if output else export.scores_path
    publish.check_writable(path)
    graph = runtime.open_graph(export.model_path, device)
    console.title(f"predict-onnx {export.name}: {len(table)} images from {table.folder}")
    console.say(f"runs on: {graph.provider} ({graph.why})")
    parts = []
    with console.bar("scoring", len(table)) as bar:
        for part in infer.scores(table, described["input"]["shape"][1], graph):
            parts.append(part)
            bar.advance(len(part))
    y_pred = np.concatenate(parts)
    publish.text(path, ledger.scores_csv(table.img_name, y_pred))
    if table.target is not None and table.both_classes:
        _show_scores(f"exact score on the {table.split} split", [("ONNX", scorecard.glance(table.target, y_pred))])
    console.say(f"written: {path} ({len(table)} rows)")


def _images(workspace: Workspace, names: Sequence[str], asked: str | None, data: str | None, split: str) -> Table:
    if asked is None:
        first = workspace.experiment(names[0])
        root = Path(data) if data else first.data_root()
        return _predicted_split(dataset.find(root, config.load(first.config_path).data), split)
    path = Path(asked)
    if path.is_dir():
        return tables.in_folder(path)
    if path.is_file():
        return tables.listed(path)
    raise DataError(f"--images {path} is neither a folder nor a file", hint="pass a folder of images, or a CSV")


# --- what several verbs do -----------------------------------------------------------------------------------------


def _data_root(workspace: Workspace, settings: Config, flag: str | None) -> Path:
    """The folder with the label files; the demonstration competition is made on first use."""
    if flag:
        return Path(flag)
    if settings.data.root is None:
        raise ConfigError("no data: config.toml has no data.root", hint="pass --data FOLDER")
    root = workspace.root / settings.data.root
    if settings.data.root == DEMO:
        from ffdi.forge import demo

        if not demo.is_made(root):
            console.say(f"making the demonstration competition in {root}")
            demo.make(root)
    return root


def _dataset(blend: Blend, flag: str | None) -> Dataset:
    root = Path(flag) if flag else blend.data_root
    return dataset.find(root, blend.members[0].config.data)


def _examined(train: Table, threads: int) -> str:
    """Looks at every training image; the digest of names, labels and bytes."""
    findings = []
    with console.bar("checking images", len(train)) as bar:
        for finding in doctor.examine(train, threads):
            findings.append(finding)
            bar.advance()
    return doctor.conclude(train, findings)


def _counts(table: Table) -> str:
    assert table.target is not None
    fake = int(table.target.sum())
    groups = "" if table.group is None else f", {len(np.unique(table.group))} groups"
    return f"{len(table)} training images ({len(table) - fake} real, {fake} fake{groups}) in {table.folder}"


def _show_scores(heading: str, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
    columns = {
        "tpr_at_fpr_1e-3": "TPR at FPR 1e-3",
        "tpr_at_fpr_1e-2": "at 1e-2",
        "accuracy": "accuracy",
        "log_loss": "log loss",
    }
    cells = [(label, one["auc"], _interval(one), *(one[key] for key in columns)) for label, one in rows]
    console.table(heading, ["", "AUC", "95 %", *columns.values()], cells)


def _interval(score: dict[str, Any]) -> str:
    """The AUC's interval as a table shows it; a mean of several networks has none."""
    if "intervals" not in score:
        return ""
    low, high = score["intervals"]["auc"]
    return f"{low:.3f} to {high:.3f}"


def _again(names: Sequence[str], name: str | None) -> str:
    flags = "".join(f" --experiment {one}" for one in names)
    return f"{flags} --name {name}" if name else flags
