"""A training that is begun to be watched: nothing of it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ffdi.commands.shared import planning
from ffdi.commands.shared.planning import Flags
from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.core import console, signals
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.data.loading.loader import Batches
    from ffdi.training.runtime.device import Device
    from ffdi.training.state import State


class Trial(NamedTuple):
    """What a training consists of: the network with its optimiser, and batches of all training images."""

    state: State
    batches: Batches
    settings: Config
    where: Device


@contextmanager
def start_trial(workspace: Workspace, experiment: Experiment, flags: Flags, what: str, steps: int) -> Iterator[Trial]:
    """A training of so many steps, `what` a person has asked for; inside, the experiment is locked.

    Raises:
        FFDIError: as for train-folds; inside, what goes wrong on the device is explained.
        Stopped: where this process is to end.
    """
    from ffdi.data.loading import loader
    from ffdi.models import detector
    from ffdi.training.runtime import oom
    from ffdi.training.state import State

    settings = schema.load(experiment.config_path)
    where, weights = planning.choose_device(workspace, settings, flags)
    console.title(f"{what} {experiment.name}: {settings.model.backbone}, {steps} steps")
    console.say(f"device: {where.why}")
    train = planning.prepare_data(workspace, experiment, settings, flags).train
    state = State.of(where.prepare(detector.build_initialized(settings, weights)), settings.train, where)
    batches = loader.make_train_loader(train, settings, fold=0, supply=where.supply)
    with experiment.locked(), signals.handle_signals(), oom.explain_oom(settings, where):
        yield Trial(state, batches, settings, where)
