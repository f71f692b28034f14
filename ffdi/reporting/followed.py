"""The state of a training, read from the files that it has written so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ffdi.config import schema
from ffdi.core import manifests
from ffdi.core.errors import FFDIError
from ffdi.data.splits import folds
from ffdi.data.splits.folds import FoldAssignment
from ffdi.evaluation import predictions, scorecard
from ffdi.evaluation.predictions import OofPredictions
from ffdi.experiments import progress
from ffdi.experiments.experiment import REFIT, Experiment
from ffdi.experiments.fold import FoldFolder, Identity
from ffdi.experiments.progress import CURVES, Finding

LAST_EPOCHS = 3
"""The epochs of a fold whose median duration is expected of the next ones."""
WAITING, STARTING, RUNNING = "waiting", "starting", "training"
STOPPED, FINISHED, UNREADABLE = "stopped", "finished", "unreadable"

Curves = Mapping[str, Sequence[float]]
"""The columns `CURVES`; NaN where a score is unknown."""
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class FoldState:
    """How far a fold is.

    Attributes:
        label: 'fold 0', or 'refit' for the network on all training images.
        phase: WAITING, STARTING, RUNNING, STOPPED, FINISHED or UNREADABLE.
        epochs: of the whole training.
        done: epochs, with the part of the current one.
        curves: of the completed epochs.
        findings: of all epochs.
        why: of a stop, or of files that cannot be read.
        score: of the fold's out-of-fold predictions, as in metrics.json; None before its end, and for 'refit'.
    """

    label: str
    phase: str
    epochs: int
    done: float = 0.0
    curves: Curves | None = None
    findings: tuple[Finding, ...] = ()
    why: str = ""
    score: Mapping[str, Any] | None = None

    @property
    def is_held_out(self) -> bool:
        return self.label != REFIT

    @cached_property
    def epoch_seconds(self) -> float | None:
        """The median duration of the last epochs; None before the end of the first."""
        seconds = [] if self.curves is None else [one for one in self.curves["seconds"] if one == one]
        return median(seconds[-LAST_EPOCHS:]) if seconds else None


@dataclass(frozen=True)
class TrainingState:
    """The state of an experiment's training.

    Attributes:
        folds: and last the network on all images, if it is trained; empty before the training starts.
        tta: `predict.tta`.
        pooled: the scores of the finished folds' images together, as in metrics.json; None without any.
        images: of the finished folds, and of all folds.
        changed: when the training wrote its last file, in seconds of `time.time`; None before the first.
        complete: whether all is finished, and metrics.json has the scores.
        problem: why the experiment cannot be read; ''.
    """

    folds: tuple[FoldState, ...] = ()
    tta: str = "none"
    pooled: Mapping[str, Any] | None = None
    images: tuple[int, int] = (0, 0)
    changed: float | None = None
    complete: bool = False
    problem: str = ""

    @property
    def held_out(self) -> list[FoldState]:
        return [one for one in self.folds if one.is_held_out]

    @property
    def refits(self) -> bool:
        """Whether a network is trained on all images, beside the folds."""
        return len(self.folds) > len(self.held_out)

    def count(self, phase: str) -> int:
        return sum(one.phase == phase for one in self.folds)

    def estimate_left(self, fold: FoldState) -> float | None:
        """The seconds that a fold needs for its other epochs; None if no epoch has been measured."""
        if fold.phase == FINISHED:
            return 0.0
        measured = [one.epoch_seconds for one in self.folds if one.epoch_seconds is not None]
        seconds = fold.epoch_seconds if fold.epoch_seconds is not None else median(measured) if measured else None
        return None if seconds is None else seconds * max(fold.epochs - fold.done, 0.0)

    def estimate_total(self) -> float | None:
        """The seconds until all folds are trained, as many at once as now; None while that is unknown."""
        left = {one.label: self.estimate_left(one) for one in self.folds if one.phase != FINISHED}
        running = [one.label for one in self.folds if one.phase == RUNNING]
        if None in left.values() or not running:
            return None
        ends = [left.pop(label) or 0.0 for label in running]
        for seconds in left.values():
            ends.sort()
            ends[0] += seconds or 0.0
        return max(ends)


class _Finished(NamedTuple):
    """What a finished fold has written; there are no predictions of the network on all images."""

    curves: Curves
    oof: OofPredictions | None


Stamp = tuple[int, int, int] | None
"""Of a file: it changes when the file is replaced; None if there is none."""


class TrainingFollower:
    """Reads the state of a training again and again; each file only after it has changed.

    It locks and writes nothing.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._cache: dict[str, tuple[tuple[Stamp, ...], Any]] = {}
        self._last = TrainingState()

    def read(self) -> TrainingState:
        """The current state; if a file cannot be read, the last one with this problem."""
        try:
            started = self.experiment.resolved_path.is_file()
            self._last = self._read_started() if started else TrainingState()
        except (FFDIError, OSError) as error:
            return replace(self._last, problem=_describe(error))
        return self._last

    def _read_started(self) -> TrainingState:
        one = self.experiment
        identity = self._load("identity", one.read_identity, one.resolved_path)
        digest = self._load("folds digest", one.read_folds_digest, one.resolved_path, one.folds_path)
        assignment = self._load("folds", lambda: folds.read_assignment(one.folds_path), one.folds_path)
        config = self._load("config", lambda: schema.load_experiment(one.config_path), one.config_path)
        k = int(identity.config["folds"]["k"])
        folders = [*map(one.get_fold, range(k)), *([one.get_refit(k)] if config.folds.refit else [])]
        finished, states = dict[int, _Finished](), list[FoldState]()
        for folder in folders:
            state, found = self._read_fold(folder, identity, digest)
            states.append(state)
            if found is not None:
                finished[folder.fold] = found
        started = TrainingState(
            tuple(states),
            str(identity.config["predict"]["tta"]),
            images=(int(np.isin(assignment.fold, list(finished)).sum()), len(assignment.fold)),
            changed=_find_last_change([one.resolved_path, one.metrics_path], folders),
        )
        return self._add_scores(started, finished, assignment)

    def _read_fold(self, folder: FoldFolder, identity: Identity, digest: str) -> tuple[FoldState, _Finished | None]:
        epochs = int(identity.config["train"]["epochs"])
        files = folder.manifest_path, folder.history_path, folder.oof_path
        key = f"{folder.label} {identity.digest} {digest}"
        try:
            known = self._load(
                f"{key} progress", lambda: progress.read_progress(folder, identity, digest), folder.progress_path
            )
            found = self._load(f"{key} finished", lambda: _read_finished(folder, identity, digest), *files)
        except (FFDIError, OSError) as error:
            return FoldState(folder.label, UNREADABLE, epochs, why=_describe(error)), None
        findings = known.findings if known is not None else ()
        if found is not None:
            return FoldState(folder.label, FINISHED, epochs, epochs, found.curves, findings), found
        if known is None:
            return FoldState(folder.label, WAITING, epochs), None
        phase = STOPPED if known.ended else RUNNING if known.done else STARTING
        curves = _to_columns(known.history) if known.history else None
        return FoldState(folder.label, phase, known.epochs, known.done, curves, findings, known.ended), None

    def _add_scores(
        self, state: TrainingState, finished: Mapping[int, _Finished], assignment: FoldAssignment
    ) -> TrainingState:
        """The state with the scores of metrics.json, or before its end with those of the finished folds."""
        one = self.experiment
        if state.count(FINISHED) == len(state.folds):
            scores = self._load("metrics", lambda: _read_metrics(one), one.metrics_path, one.oof_path)
            if scores is not None:
                return replace(_score_folds(state, scores["folds"]), pooled=scores["pooled"], complete=True)
        parts = {number: found.oof for number, found in finished.items() if found.oof is not None}
        if not parts:
            return state
        paths = [one.folds_path, *(one.get_fold(number).oof_path for number in parts)]
        scores = self._load(f"scores {sorted(parts)}", lambda: _compute_scores(parts, assignment), *paths)
        return replace(_score_folds(state, scores["folds"]), pooled=scores["pooled"])

    def _load(self, key: str, load: Callable[[], Loaded], *paths: Path) -> Loaded:
        """What `load` returns, which depends on these files only; it is called again after one of them has changed."""
        stamps = tuple(map(_stamp, paths))
        if key not in self._cache or self._cache[key][0] != stamps:
            self._cache[key] = stamps, load()
        loaded: Loaded = self._cache[key][1]
        return loaded


def _read_finished(folder: FoldFolder, identity: Identity, digest: str) -> _Finished | None:
    """None for a fold that is not finished."""
    if not folder.is_finished(identity, digest, weights=False):
        return None
    history = folder.read_history()
    curves = {name: history[name].tolist() for name in CURVES}
    return _Finished(curves, predictions.read_predictions(folder.oof_path) if folder.oof_path.is_file() else None)


def _read_metrics(experiment: Experiment) -> dict[str, Any] | None:
    """The content of metrics.json; None before the folds' predictions are merged, and while they are."""
    if not (experiment.metrics_path.is_file() and experiment.oof_path.is_file()):
        return None
    content = manifests.read_manifest(experiment.metrics_path, {"pooled": dict, "folds": dict, "oof_sha256": str})
    return content if content["oof_sha256"] == manifests.hash_file(experiment.oof_path) else None


def _compute_scores(parts: Mapping[int, OofPredictions], assignment: FoldAssignment) -> dict[str, Any]:
    """The scores of some folds, computed as those of all folds are for metrics.json."""
    rows = np.isin(assignment.fold, list(parts))
    oof = predictions.merge_predictions(
        list(parts.values()), assignment.img_name[rows], assignment.fold[rows], assignment.target[rows]
    )
    return scorecard.make_scorecard(oof, None if assignment.group is None else assignment.group[rows], [])


def _score_folds(state: TrainingState, scores: Mapping[str, Mapping[str, Any]]) -> TrainingState:
    return replace(
        state, folds=tuple(replace(one, score=scores.get(one.label.removeprefix("fold "))) for one in state.folds)
    )


def _to_columns(history: Sequence[Mapping[str, float | None]]) -> Curves:
    return {name: [math.nan if (value := epoch[name]) is None else value for epoch in history] for name in CURVES}


def _find_last_change(paths: Sequence[Path], folders: Sequence[FoldFolder]) -> float | None:
    found = map(_stamp, [*paths, *(path for one in folders for path in (one.progress_path, one.manifest_path))])
    return max((stamp[0] / 1e9 for stamp in found if stamp is not None), default=None)


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _describe(error: FFDIError | OSError) -> str:
    if isinstance(error, FFDIError):
        return error.what
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)
