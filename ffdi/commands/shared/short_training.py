"""Trainings of a few steps that are not saved: to find a learning rate, to profile, and to measure a pace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ffdi.commands.shared import planning
from ffdi.commands.shared.options import TrainingOptions
from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.core import console, signals
from ffdi.core.errors import format_count
from ffdi.data.labels.table import Table
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.data.loading.loader import Batches
    from ffdi.training.runtime.device import Device
    from ffdi.training.state import TrainingState


class ShortTraining(NamedTuple):
    """A training of a few steps: its network with the optimizer, and batches of all training images."""

    state: TrainingState
    batches: Batches
    settings: Config
    device: Device


class ShortSetup(NamedTuple):
    """What a training of a few steps starts from."""

    settings: Config
    train: Table
    device: Device
    weights: Path | None


@contextmanager
def start_short_training(
    workspace: Workspace, experiment: Experiment, options: TrainingOptions, purpose: str, steps: int
) -> Iterator[ShortTraining]:
    """Starts a training that is not saved, see `prepare_short_training`; errors of the device are explained."""
    with (
        prepare_short_training(workspace, experiment, options, purpose, steps) as setup,
        open_short_training(*setup) as training,
    ):
        yield training


@contextmanager
def prepare_short_training(
    workspace: Workspace, experiment: Experiment, options: TrainingOptions, purpose: str, steps: int
) -> Iterator[ShortSetup]:
    """Prepares a training that is not saved; inside, the experiment is locked.

    Args:
        workspace: the workspace.
        experiment: the experiment with the config.
        options: the flags.
        purpose: the first word of the title.
        steps: the number of steps, for the title.

    Raises:
        FFDIError: the training cannot start, as in train-folds.
        Interrupted: the process received a signal.
    """
    settings = schema.load_experiment(experiment.config_path)
    device, weights = planning.choose_device(workspace, settings, options)
    console.title(f"{purpose} {experiment.name}: {settings.model.backbone}, {format_count(steps, 'step')}")
    console.say(f"device: {device.why}")
    train = planning.prepare_data(workspace, experiment, settings, options).train
    with experiment.lock(), signals.handle_signals():
        yield ShortSetup(settings, train, device, weights)


@contextmanager
def open_short_training(
    settings: Config, train: Table, device: Device, weights: Path | None, unlabelled: Table | None = None
) -> Iterator[ShortTraining]:
    """A training on all images of a table that is not saved; inside, errors of the device are explained.

    Args:
        settings: of the experiment.
        train: images with labels.
        device: that computes.
        weights: the file of starting weights; None starts from random ones.
        unlabelled: images with pseudo-labels, as in `loader.make_train_loader`.
    """
    from ffdi.data.loading import loader
    from ffdi.models import detector
    from ffdi.training.loop import list_nondeterministic
    from ffdi.training.runtime import device as devices
    from ffdi.training.state import TrainingState

    batches = loader.make_train_loader(
        train, settings, fold=0, loader_config=device.loader_config, unlabelled=unlabelled
    )
    with devices.explain_oom(settings, device), ExitStack() as stack:
        network = device.prepare(detector.build_initialized(settings, weights))
        state, wanted = TrainingState.create(network, settings.train, device), settings.train.deterministic
        tolerant = wanted and len(list_nondeterministic(network, settings, device)) > 0
        stack.enter_context(device.deterministic(wanted, tolerant=tolerant))
        yield ShortTraining(state, batches, settings, device)
