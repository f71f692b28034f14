"""The page that follows a training: one HTML file that renews itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from ffdi.core import console
from ffdi.core.errors import format_count, format_duration
from ffdi.evaluation import score_names
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.progress import Finding
from ffdi.pages import template
from ffdi.reporting import charts
from ffdi.reporting.charts import Chart
from ffdi.reporting.followed import FINISHED, RUNNING, STARTING, STOPPED, UNREADABLE, WAITING, FoldState, TrainingState
from ffdi.reporting.headlines import NONE, Tile

RENEW_SECONDS = 30.0
"""The page is written again after this time, even if nothing has changed."""
PAGE_SECONDS, STALE_SECONDS = 3, 90
"""Between two looks of an open page at its file; and the age at which it says that it is not renewed."""
SILENT_SECONDS, SILENT_EPOCHS = 120.0, 1.5
"""The training is called silent after both times: in seconds, and in epochs of its slowest fold."""


class Row(NamedTuple):
    """A fold in the table.

    Attributes:
        share: the trained part, from 0 to 1.
        cells: the other columns of `COLUMNS`.
    """

    label: str
    phase: str
    share: float
    cells: Sequence[str]


COLUMNS = ("", "state", "held-out AUC, last epoch", "out-of-fold AUC", "time left")


class Part(NamedTuple):
    """What the page shows of one experiment.

    Attributes:
        status: changes only when a fold ends or the training starts, and is read aloud then.
        notices: what needs attention.
    """

    name: str
    status: str
    notices: Sequence[str]
    tiles: Sequence[Tile]
    rows: Sequence[Row]
    findings: Sequence[str]
    charts: Sequence[Chart]


@dataclass(frozen=True)
class LivePage:
    """The content of the page.

    Attributes:
        parts: one for each experiment.
        written: the time of this page.
        ended: why it is not renewed any more; '' while it is.
        command: that writes it.
        steps: what to do next, as commands.
    """

    parts: Sequence[Part]
    written: datetime
    ended: str
    command: str
    steps: Sequence[str]

    def render(self) -> str:
        limits = {"page_seconds": PAGE_SECONDS, "stale_seconds": STALE_SECONDS}
        return template.render("live.html.j2", page=self, columns=COLUMNS, **limits)


class CurveDrawer:
    """Draws learning curves, and again only after one of them has grown.

    Args:
        prefix: of the folds' names, which tells experiments apart; '' for one.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix, self._key = prefix, ""
        self._drawn: list[Chart] = []

    def draw(self, folds: Sequence[FoldState]) -> list[Chart]:
        """Loss and held-out AUC of the folds that have trained an epoch; nothing while none has trained two."""
        curves = {f"{self._prefix}{one.label}": one.curves for one in folds if one.curves is not None}
        if (key := repr(curves)) != self._key:
            is_line = any(len(one["epoch"]) > 1 for one in curves.values())
            self._key, self._drawn = key, charts.draw_curves(curves) if is_line else []
        return self._drawn


def build_part(
    experiment: Experiment, state: TrainingState, now: float, draw: Callable[[Sequence[FoldState]], list[Chart]]
) -> Part:
    """What the page shows of one experiment.

    Args:
        experiment: that is trained.
        state: of its training.
        now: in seconds of `time.time`.
        draw: `CurveDrawer.draw`.
    """
    return Part(
        experiment.name,
        describe_status(experiment, state),
        _list_notices(experiment, state, now),
        [_make_score(state), _make_count(state), _make_time_left(state, now)] if state.folds else [],
        [_make_row(state, one, is_silent(state, now)) for one in state.folds],
        [_describe_findings(one, one.findings) for one in state.folds if one.findings],
        draw(state.held_out),
    )


def describe_status(experiment: Experiment, state: TrainingState) -> str:
    """One sentence about the whole training."""
    if not state.folds:
        return f"Waiting for the training to start: invoke train-folds --experiment {experiment.argument}"
    finished = [one.label.removeprefix("fold ") for one in state.held_out if one.phase == FINISHED]
    k = len(state.held_out)
    if state.complete:
        refit = ", and the network on all images" if state.refits else ""
        return f"The training is finished: all {format_count(k, 'fold')}{refit}."
    if len(finished) == k:
        return f"All {format_count(k, 'fold')} are finished; the training is not."
    which = f": fold {', '.join(finished)}" if finished else ""
    return f"{len(finished)} of {format_count(k, 'fold')} finished{which}."


def is_silent(state: TrainingState, now: float) -> bool:
    """Whether the training has written nothing for longer than an epoch takes."""
    if state.complete or state.changed is None:
        return False
    epochs = [one.epoch_seconds for one in state.folds if one.epoch_seconds is not None]
    return now - state.changed > max([SILENT_SECONDS, *(SILENT_EPOCHS * seconds for seconds in epochs)])


def _list_notices(experiment: Experiment, state: TrainingState, now: float) -> list[str]:
    train = f"invoke train-folds --experiment {experiment.argument}"
    notices = [f"Not readable at the moment: {state.problem}"] if state.problem else []
    stopped = [one for one in state.folds if one.phase == STOPPED]
    notices += [f"{one.label}: {one.why}" for one in state.folds if one.phase == UNREADABLE]
    if stopped and not any(map(is_active, state.folds)):
        reasons = "; ".join(dict.fromkeys(f"{one.label}: {one.why}" for one in stopped))
        notices.append(f"The training has ended early. {reasons}. The same command resumes it: {train}")
    elif is_silent(state, now) and state.changed is not None:
        notices.append(
            f"Nothing has come from the training for {format_duration(now - state.changed)}. If it is not running any "
            f"more, this resumes it: {train}"
        )
    return notices


def _make_score(state: TrainingState) -> Tile:
    """The pooled score of the finished folds, and of which ones it is."""
    label = f"AUC ({score_names.POOLED})"
    scored = [one for one in state.held_out if one.score is not None]
    if state.pooled is None:
        return Tile(label, NONE, "known when the first fold is finished")
    some, every = state.images
    of = f"{len(scored)} of {format_count(len(state.held_out), 'fold')}, {some} of {format_count(every, 'image')}"
    ends = state.pooled["intervals"].get("auc")
    reason = state.pooled["no_interval"].get("auc")
    interval = f"95 %: {console.interval(ends)}" + (f" ({reason})" if reason else "")
    return Tile(label, f"{state.pooled['auc']:.4f}", f"{of}; {interval}; {score_names.describe_tta(state.tta)}")


def _make_count(state: TrainingState) -> Tile:
    counts = {phase: state.count(phase) for phase in (RUNNING, STARTING, WAITING, STOPPED, UNREADABLE)}
    note = ", ".join(f"{count} {phase}" for phase, count in counts.items() if count)
    networks = "networks" if state.refits else "folds"
    return Tile(f"{networks} finished", f"{state.count(FINISHED)} of {len(state.folds)}", note)


def _make_time_left(state: TrainingState, now: float) -> Tile:
    label = "time left"
    if state.complete:
        return Tile(label, NONE, "the training is finished")
    if is_silent(state, now) or not state.count(RUNNING):
        return Tile(label, NONE, "no fold is training now")
    if (seconds := state.estimate_total()) is None:
        return Tile(label, NONE, "known after the first epoch")
    return Tile(
        label, f"about {format_duration(seconds)}", "from the seconds per epoch; scoring the images comes on top"
    )


def _make_row(state: TrainingState, fold: FoldState, silent: bool) -> Row:
    auc = NONE
    if fold.is_held_out and fold.curves is not None:
        auc = f"{fold.curves['heldout_auc'][-1]:.4f}"
    score = NONE if fold.score is None else f"{fold.score['auc']:.4f}"
    left = state.estimate_left(fold) if fold.phase in (RUNNING, STARTING, WAITING) and not silent else None
    shown = NONE if left is None else f"about {format_duration(left)}"
    return Row(fold.label, describe_phase(fold), fold.done / fold.epochs, [auc, score, shown])


def is_active(fold: FoldState) -> bool:
    """Whether a fold has started and not ended."""
    return fold.phase in (STARTING, RUNNING)


def describe_phase(fold: FoldState) -> str:
    """Words such as 'waiting', 'in epoch 3 of 10' or 'finished, 10 epochs'."""
    if fold.phase == FINISHED:
        return f"finished, {format_count(fold.epochs, 'epoch')}"
    if fold.phase == RUNNING and fold.done >= fold.epochs:
        return "scoring its images"
    epoch = f"in epoch {min(int(fold.done) + 1, fold.epochs)} of {fold.epochs}"
    return {RUNNING: epoch, STOPPED: f"stopped {epoch}"}.get(fold.phase, fold.phase)


def _describe_findings(fold: FoldState, findings: Sequence[Finding]) -> str:
    """The last finding of a fold, and how often there were others."""
    last = findings[-1]
    more = f" There were findings after {format_count(len(findings), 'epoch')} so far." if len(findings) > 1 else ""
    since = " None since." if int(fold.done) > last.epoch else ""
    text = "; ".join(last.symptoms)
    return f"{fold.label}, after epoch {last.epoch}: {text}. Advice: {last.advice}.{since}{more}"
