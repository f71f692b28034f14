"""Says where the time of a training goes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ffdi import console, publish
from ffdi.pipeline import trial
from ffdi.pipeline.planning import Flags
from ffdi.store.experiment import Experiment
from ffdi.store.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.training.profile import Part


def run(workspace: Workspace, experiment: Experiment, flags: Flags) -> None:
    """Trains for a few steps, shows what each consists of, and keeps nothing but the profiler's trace."""
    from ffdi.training import profile

    with (
        trial.begun(workspace, experiment, flags, "profile", profile.STEPS) as (state, batches, settings, where),
        publish.writing(experiment.trace_path) as beside,
    ):
        seen = profile.watch(state, batches, settings, where, beside)
    whole = sum(part.milliseconds for part in seen.parts)
    _show(f"a step of {settings.train.batch_size} images, as this process sees it", seen.parts, whole)
    _show("operators that take the device most of it", seen.operators, whole)
    console.say(f"{seen.images_per_second:.1f} images/s while nobody watched closely")
    console.written(experiment.trace_path, about=", to be opened in chrome://tracing or Perfetto")
    console.advise(f"invoke train-folds --experiment {shlex.quote(experiment.name)}")


def _show(heading: str, parts: Sequence[Part], whole: float) -> None:
    rows = [(part.name, f"{part.milliseconds:.1f}", f"{100 * part.milliseconds / whole:.1f} %") for part in parts]
    console.table(heading, ["", "ms", "of a step"], rows)
