"""Says where the time of a training goes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ffdi.commands.shared import trial
from ffdi.commands.shared.planning import Flags
from ffdi.core import console, files
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.training.tools.profiler import Part


def run(workspace: Workspace, experiment: Experiment, flags: Flags) -> None:
    """Trains for a few steps, shows what each consists of, and keeps nothing but the profiler's trace."""
    from ffdi.training.tools import profiler

    with (
        trial.start_trial(workspace, experiment, flags, "profile", profiler.STEPS) as (state, batches, settings, where),
        files.open_atomic(experiment.trace_path) as beside,
    ):
        seen = profiler.profile_steps(state, batches, settings, where, beside)
    whole = sum(part.milliseconds for part in seen.parts)
    _show(f"a step of {settings.train.batch_size} images, as this process sees it", seen.parts, whole)
    _show("operators that take the device most of it", seen.operators, whole)
    console.say(f"{seen.images_per_second:.1f} images/s while nobody watched closely")
    console.written(experiment.trace_path, about=", to be opened in chrome://tracing or Perfetto")
    console.advise(f"invoke train-folds --experiment {shlex.quote(experiment.name)}")


def _show(heading: str, parts: Sequence[Part], whole: float) -> None:
    rows = [(part.name, f"{part.milliseconds:.1f}", f"{100 * part.milliseconds / whole:.1f} %") for part in parts]
    console.table(heading, ["", "ms", "of a step"], rows)
