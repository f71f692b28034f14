"""Follows trainings of other processes, for `report --live`: writes their page again whenever something has changed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ffdi.commands.shared import groups
from ffdi.commands.shared.options import ReportOptions
from ffdi.core import console, files, signals
from ffdi.core.errors import ExperimentError
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace
from ffdi.reporting import live
from ffdi.reporting.followed import FINISHED, FoldState, TrainingFollower, TrainingState
from ffdi.reporting.live import CurveDrawer, LivePage

POLL_SECONDS = 2.0
MAX_FAILURES = 30
"""Writes of the page that may fail one after the other. A training that starts removes all temporary files of its
experiment, the page's among them, and a network disk may be away for a while."""


def follow(workspace: Workspace, options: ReportOptions) -> None:
    """Writes the page until all folds are finished, or until Ctrl-C or SIGTERM.

    Raises:
        ConfigError: an experiment does not exist.
        ExperimentError: the page cannot be written.
    """
    members, name = groups.resolve_experiments(workspace, options.experiment, options.name)
    experiments = [workspace.get_experiment(one) for one in members]
    path = workspace.get_live_path(experiments, workspace.get_export(members, name))
    files.check_writable(path)
    console.title(f"report --live: {', '.join(one.name for one in experiments)}")
    page = _LiveFile(path, experiments, groups.repeat_flags(options.experiment, options.name))
    with signals.sigterm_as_interrupt():
        try:
            _follow(page)
        except KeyboardInterrupt:
            page.write(ended="Not renewed any more: the command was stopped.")
            console.written(path)
            console.say("ended; the training is not affected, and the same command follows it again")
            return
    page.write(ended="The training is finished.")
    console.written(path, about=": open it in a browser")
    console.advise(f"invoke report{page.flags}")


def _follow(page: _LiveFile) -> None:
    """Returns when all trainings are finished."""
    page.read()
    if page.is_complete:
        return
    page.write()
    console.announce(f"open {page.path} in a browser; Ctrl-C ends the command", page=str(page.path))
    with console.bar("waiting for the training", 1.0, counted=False) as bar:
        while not page.is_complete:
            share, label = page.describe()
            bar.at(share, label)
            time.sleep(POLL_SECONDS)
            ended = page.read()
            for line in ended:
                bar.say(line)
            page.write_if_due()


class _LiveFile:
    """The page on the disk, and the states of its trainings."""

    def __init__(self, path: Path, experiments: Sequence[Experiment], flags: str) -> None:
        self.path, self.flags, self._experiments = path, flags, experiments
        self._prefixes = [f"{one.name} " if len(experiments) > 1 else "" for one in experiments]
        self._followers = [TrainingFollower(one) for one in experiments]
        self._drawers = list(map(CurveDrawer, self._prefixes))
        self._states = [TrainingState() for _ in experiments]
        self._shown: list[TrainingState] | None = None
        self._written, self._failures = -math.inf, 0

    @property
    def is_complete(self) -> bool:
        return all(one.complete for one in self._states)

    def read(self) -> list[str]:
        """Reads what the trainings have written; returns a line for each fold that has finished since."""
        before, self._states = self._states, [one.read() for one in self._followers]
        lines = []
        for prefix, old, new in zip(self._prefixes, before, self._states, strict=True):
            known = {one.label for one in old.folds if one.phase == FINISHED}
            lines += [
                f"{prefix}{_describe_end(one)}" for one in new.folds if one.phase == FINISHED and one.label not in known
            ]
        return lines

    def describe(self) -> tuple[float, str]:
        """The trained part, from 0 to 1, and what is trained now."""
        folds = [
            (prefix, one) for prefix, state in zip(self._prefixes, self._states, strict=True) for one in state.folds
        ]
        epochs = sum(one.epochs for _, one in folds)
        running = [f"{prefix}{one.label} {live.describe_phase(one)}" for prefix, one in folds if live.is_active(one)]
        share = sum(one.done for _, one in folds) / epochs if epochs else 0.0
        return share, ", ".join(running) or "waiting for the training"

    def write_if_due(self) -> None:
        """Writes the page if something has changed, or if it is old.

        Raises:
            ExperimentError: it could not be written many times.
        """
        if self._states == self._shown and time.monotonic() - self._written < live.RENEW_SECONDS:
            return
        try:
            self.write()
        except ExperimentError:
            self._failures += 1
            if self._failures > MAX_FAILURES:
                raise

    def write(self, ended: str = "") -> None:
        """Writes the page; errors as in `files.open_atomic`.

        Args:
            ended: why it will not be written again; '' if it will.
        """
        now = time.time()
        parts = [
            live.build_part(one, state, now, drawer.draw)
            for one, state, drawer in zip(self._experiments, self._states, self._drawers, strict=True)
        ]
        steps = [f"invoke report{self.flags}"] if self.is_complete else []
        command = f"invoke report --live{self.flags}"
        page = LivePage(parts, datetime.fromtimestamp(now).astimezone(), ended, command, steps)
        files.write_text(self.path, page.render())
        self._shown, self._written, self._failures = self._states, time.monotonic(), 0


def _describe_end(fold: FoldState) -> str:
    score = "" if fold.score is None else f", out-of-fold AUC {fold.score['auc']:.4f}"
    return f"{fold.label}  finished{score}"
