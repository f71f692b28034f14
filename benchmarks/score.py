"""Claim: in the wall-clock time that the notebook's loop takes for its two epochs, ffdi's recipe leaves less of the
error 1 - AUC, on the same data, backbone, starting weights and machine: of StyleGAN faces at most 0.4 of it with
ImageNet weights and 0.6 without, of face swaps 0.75; and the AUC falls by at most 0.03 under JPEG 50, blur, half size.

    python benchmarks/score.py --data FOLDER [--data FOLDER] [--backbone resnet18] [--weights FILE]
        [--experiment NAME] [--set train.lr=3e-3] [--seeds 0,1,2] [--seconds S | --epochs N] [--other FOLDER]

FOLDER is in FFDI layout with a labelled validation split, on which both are scored. For every seed the notebook's two
epochs are timed, then the experiment is trained for as many epochs as fit into that time (its schedule over them), the
looks at its own progress included; what it really took is printed, with its CPU time. --seconds takes that budget in
place of the notebook's, which is then not run; --epochs takes a number of epochs. --other scores what was trained on
each FOLDER also on the validation split there: a kind of fake that it was never shown. One network each, no folds, no
ensemble. The experiment is resnet18-fast with weights, resnet18-scratch without, unless another one is named.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import notebook
from trained import parse_keys

from ffdi.config import schema, variants
from ffdi.config.schema import Config
from ffdi.core import machine
from ffdi.data.labels import layout
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.table import Table
from ffdi.data.loading import loader
from ffdi.evaluation import intervals, metrics
from ffdi.evaluation.predictions import sigmoid
from ffdi.models import detector
from ffdi.training import fold, predict
from ffdi.training.loop import Step, fit
from ffdi.training.runtime import device
from ffdi.training.runtime.device import Device
from ffdi.training.state import TrainingState

PROJECT = Path(__file__).resolve().parent.parent
DISTORTIONS = ("JPEG quality 50", "blur of 0.8 % of the edge", "half size")
LOOK = 64
"""Validation images that a training looks at after each epoch; a fold's own would be a fifth of the training images."""
PROBE = 6
"""Steps that measure the pace of a training, after two that do not count."""


@dataclass(frozen=True)
class Result:
    """AUC on the validation split, as it is and distorted, on another data set, and the seconds that it took.

    Attributes:
        cpu: seconds of CPU time.
    """

    auc: float
    low: float
    high: float
    seconds: float
    cpu: float
    epochs: float
    distorted: tuple[float, ...] = ()
    elsewhere: float = float("nan")


def main() -> None:
    """Trains both in turn and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--experiment")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--seeds", default="0,1,2")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--seconds", type=float)
    budget.add_argument("--epochs", type=int)
    asked = parser.parse_args()
    asked.experiment = asked.experiment or ("resnet18-fast" if asked.weights else "resnet18-scratch")
    torch.set_num_threads(machine.count_cores())
    for folder in asked.data:
        found = layout.find_dataset(folder, Config().data)
        print(
            f"{folder}: {len(found.split('train'))} training, {len(found.split('val'))} validation images", flush=True
        )
        pairs = []
        for seed in map(int, asked.seeds.split(",")):
            pairs.append(pair(asked, found, seed))
            show(seed, *pairs[-1])
        summary(pairs)


def pair(asked: argparse.Namespace, found: Dataset, seed: int) -> tuple[Result | None, Result]:
    """The notebook's result, where it is run, and ffdi's in the same time."""
    theirs = None if asked.seconds or asked.epochs else of_notebook(asked, found, seed)
    return theirs, of_ffdi(asked, found, seed, theirs.seconds if theirs else asked.seconds)


def of_notebook(asked: argparse.Namespace, found: Dataset, seed: int) -> Result:
    torch.manual_seed(seed)
    network = notebook.build(asked.backbone, asked.weights)
    started = time.process_time()
    seconds = notebook.train(network, found.split("train"), seed)
    cpu, val = time.process_time() - started, found.split("val")
    return Result(*judged(val, notebook.score(network, val)), seconds, cpu, notebook.EPOCHS)


def of_ffdi(asked: argparse.Namespace, found: Dataset, seed: int, budget: float | None) -> Result:
    """Trains for as many epochs as fit into the budget, or for --epochs, and scores."""
    settings = configured(asked, seed)
    where = place(settings)
    epochs = asked.epochs
    if budget is not None:
        epochs = max(1, int(budget / epoch_seconds(settings.with_epochs(1), asked.weights, found, where)))
    settings = settings.with_epochs(epochs)
    started, cpu = time.perf_counter(), time.process_time()
    state = trained(settings, asked.weights, found, where)
    seconds, cpu, val = time.perf_counter() - started, time.process_time() - cpu, found.split("val")
    auc, *others = (judged(val, scored(state, settings, val, where, way)) for way in (None, *DISTORTIONS))
    elsewhere = float("nan")
    if asked.other:
        other = layout.find_dataset(asked.other, settings.data).split("val")
        elsewhere = judged(other, scored(state, settings, other, where, None))[0]
    return Result(*auc, seconds, cpu, epochs, tuple(one[0] for one in others), elsewhere)


def configured(asked: argparse.Namespace, seed: int) -> Config:
    """The experiment's config with the backbone and weights that both are given."""
    path = PROJECT / "experiments" / asked.experiment / "config.toml"
    keys = parse_keys(asked.set)
    keys |= {"seed": seed, "model.backbone": asked.backbone, "model.pretrained": asked.weights is not None}
    return schema.validate(tomllib.loads(variants.format_variant(asked.experiment, path.read_text(), keys)), str(path))


def place(settings: Config) -> Device:
    return device.choose_device("auto", settings.train.precision, None)


def epoch_seconds(settings: Config, weights: Path | None, found: Dataset, where: Device) -> float:
    """How long an epoch takes, from a few steps and a look."""
    state = start_training(settings, weights, where)
    steps = (one for one in events(state, settings, found, where) if isinstance(one, Step))
    times = [(time.perf_counter(), one.steps) for one in itertools.islice(steps, 2 + PROBE)]
    pace = (times[-1][0] - times[1][0]) / PROBE
    started = time.perf_counter()
    scored(state, settings, some(found.split("val")), where, None)
    return times[0][1] * pace + time.perf_counter() - started


def trained(settings: Config, weights: Path | None, found: Dataset, where: Device) -> TrainingState:
    """A training that has ended."""
    state = start_training(settings, weights, where)
    for _ in events(state, settings, found, where):
        pass
    return state


def start_training(settings: Config, weights: Path | None, where: Device) -> TrainingState:
    """A training that has not started."""
    return TrainingState.create(where.prepare(detector.build_initialized(settings, weights)), settings.train, where)


def events(state: TrainingState, settings: Config, found: Dataset, where: Device) -> Iterator[object]:
    """All training images, as for a fold."""
    train, few = found.split("train"), some(found.split("val"))
    batches = loader.make_train_loader(train, settings, fold=0, loader_config=where.loader_config)
    return fit(state, batches, fold.make_eval_batches(few, settings, where), settings, where, settings.seed)


def some(table: Table) -> Table:
    """What a training looks at after each epoch."""
    return table.take(np.arange(0, len(table), max(1, len(table) // LOOK)))


def scored(state: TrainingState, settings: Config, table: Table, where: Device, distortion: str | None) -> np.ndarray:
    """y_pred float [N] of the network that is kept, as the experiment asks it."""
    network = detector.Scorer(state.eval_model.eval(), settings.predict.tta)
    batches = fold.make_eval_batches(table, settings, where, distortion)
    return sigmoid(predict.predict_logits([network], batches, where)[0])


def judged(table: Table, y_pred: np.ndarray) -> tuple[float, float, float]:
    """AUC with the ends of its 95 % interval, NaN where there is none."""
    assert table.target is not None
    low, high = intervals.compute_auc_interval(table.target, y_pred, table.group) or (np.nan, np.nan)
    return float(metrics.auc(metrics.count_scores(table.target, y_pred))), low, high


def show(seed: int, theirs: Result | None, ours: Result) -> None:
    for name, one in (("notebook", theirs), ("ffdi", ours)):
        if one is not None:
            ways = ", ".join(f"{way} {auc:.4f}" for way, auc in zip(DISTORTIONS, one.distorted, strict=False))
            there = "" if np.isnan(one.elsewhere) else f"  elsewhere {one.elsewhere:.4f}"
            print(
                f"  seed {seed}  {name:8}  AUC {one.auc:.4f} ({one.low:.3f} to {one.high:.3f})  {one.epochs} epochs in "
                f"{one.seconds:.0f} s ({one.cpu:.0f} s of CPU time)  {ways}{there}",
                flush=True,
            )


def summary(pairs: list[tuple[Result | None, Result]]) -> None:
    """Means over the seeds, the share of the error that is left, and the fall under each distortion."""
    ours = np.mean([one.auc for _, one in pairs])
    theirs = [one.auc for one, _ in pairs if one is not None]
    if theirs:
        share = (1 - ours) / (1 - np.mean(theirs))
        print(
            f"  mean AUC: notebook {np.mean(theirs):.4f}, ffdi {ours:.4f}; share of the error that is left {share:.2f}"
        )
    else:
        print(f"  mean AUC: {ours:.4f}")
    falls = np.mean([[one.auc - auc for auc in one.distorted] for _, one in pairs], axis=0)
    print(f"  falls: {', '.join(f'{way} {fall:+.4f}' for way, fall in zip(DISTORTIONS, falls, strict=True))}")
    if not np.isnan(elsewhere := np.mean([one.elsewhere for _, one in pairs])):
        print(f"  elsewhere: {elsewhere:.4f}")


if __name__ == "__main__":
    main()
