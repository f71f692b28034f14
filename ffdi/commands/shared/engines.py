"""The engine of --engine: trains folds on this machine or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING

import numpy as np

from ffdi.commands.shared.options import RAY_DEVICES, ClusterOptions, EngineOptions
from ffdi.core import console
from ffdi.core.errors import ConfigError, format_count, suggest_nearest

if TYPE_CHECKING:
    from ffdi.engines.job import JobEvent, NextJob
    from ffdi.training.fold import TrainingPlan
    from ffdi.training.loop import Step
    from ffdi.training.runtime.device import Device

TrainJobs = Callable[["NextJob"], AbstractContextManager[Iterator["JobEvent"]]]
"""Requests jobs, trains them, and gives their events; ends running jobs cleanly when the context is left."""


def check_engine(options: ClusterOptions) -> None:
    """Checks the flags --engine and --address.

    Raises:
        ConfigError: the engine is unknown, or has no address, or no such device.
    """
    if options.engine not in ENGINES:
        raise ConfigError(
            f"unknown engine '{options.engine}': {suggest_nearest(options.engine, ENGINES)}", hint="pass --engine local"
        )
    if options.address is not None and options.engine != "ray":
        raise ConfigError(
            f"--address {options.address} is the address of a Ray cluster", hint="add --engine ray, or omit --address"
        )
    if options.engine == "ray" and isinstance(options, EngineOptions) and options.device not in RAY_DEVICES:
        from ffdi.training.runtime import device as devices

        devices.check_name(options.device)
        raise ConfigError(
            f"--engine ray --device {options.device}: Ray itself chooses the GPUs of a fold, and knows no others",
            hint=f"pass --device {', '.join(RAY_DEVICES[:-1])} or {RAY_DEVICES[-1]}",
        )


def check_gpus_per_fold(gpus_per_fold: int, plan: TrainingPlan) -> None:
    """Checks that every process of a fold gets an image of each batch, and an image to score.

    Raises:
        ConfigError: there are more processes than images.
    """
    if plan.config.train.batch_size < gpus_per_fold:
        raise ConfigError(
            f"--gpus-per-fold {gpus_per_fold}: a batch of {plan.config.train.batch_size} has fewer images than that",
            hint="set a larger train.batch_size in config.toml, or pass fewer --gpus-per-fold",
        )
    fewest = min([int(np.bincount(plan.fold_of).min()), *([] if plan.val is None else [len(plan.val)])])
    if fewest < gpus_per_fold:
        raise ConfigError(
            f"--gpus-per-fold {gpus_per_fold}: a fold or the validation split has only "
            f"{format_count(fewest, 'image')} to score",
            hint="pass fewer --gpus-per-fold",
        )


def open_engine(options: EngineOptions, device: Device, k: int | None) -> AbstractContextManager[TrainJobs]:
    """Opens the engine, and prints where folds run.

    Args:
        options: the flags.
        device: the device of this machine that --device chose.
        k: the number of folds of an experiment; None: any number of folds is trained.
    """
    return ENGINES[options.engine](options, device, k)


@contextmanager
def _open_local(options: EngineOptions, device: Device, k: int | None) -> Iterator[TrainJobs]:
    from ffdi.engines import local
    from ffdi.training.runtime import device as devices

    per_fold = options.gpus_per_fold
    shared = devices.assign_devices(device, options.device, k, options.jobs, per_fold)
    console.say(f"device: {device.why}")
    if len(shared) > 1 or per_fold > 1:
        names, first = ", ".join(dict.fromkeys(one.name for some in shared for one in some)), shared[0][0]
        each = f"each of their {format_count(per_fold, 'rank')}" if per_fold > 1 else "each"
        workers = f" and {format_count(first.workers, 'loader worker')}" if first.workers else ""
        threads = f"{format_count(first.threads, 'thread')}{workers}"
        console.say(f"{format_count(len(shared), 'fold')} at once: on {names}, {each} with {threads}")
        local.start_fork_server()  # it imports modules while this process scans images
    yield lambda next_job: closing(local.train_folds(next_job, shared))


@contextmanager
def _open_ray(options: EngineOptions, _device: Device, k: int | None) -> Iterator[TrainJobs]:
    from ffdi.engines import cluster, ray
    from ffdi.engines.cluster import FoldResources

    per_fold = options.gpus_per_fold
    with cluster.connect(options.address):
        kind = cluster.detect_device_kind() if options.device == "auto" else options.device
        if kind == "cpu":
            resources = FoldResources.for_cpus(k, options.jobs, options.workers, per_fold)
        else:
            resources = FoldResources.for_gpus(options.workers, per_fold)
        resources.check_available()
        console.say(f"engine: Ray on {cluster.describe_machines()}; each fold has {resources}")
        yield lambda next_job: closing(ray.train_folds(next_job, resources))


def describe_step(step: Step, epochs: int) -> str:
    """Where a training is, for a progress bar."""
    return f"epoch {step.epoch + 1}/{epochs}, batch {step.step + 1}/{step.steps}"


def describe_warnings(event: object) -> list[str]:
    """Lines for the terminal about an event of a job, except its progress."""
    from ffdi.training.checkpointing import MachineLoss, ResumeEvent
    from ffdi.training.feed_meter import WaitingForData
    from ffdi.training.fold import NondeterministicOperations
    from ffdi.training.health import HealthWarning

    if isinstance(event, ResumeEvent):
        return [f"warning: {warning}" for warning in event.warnings]
    if isinstance(event, MachineLoss):
        return [f"warning: {event.why}; it is trained on elsewhere"]
    if isinstance(event, NondeterministicOperations):
        return [
            f"warning: torch has no deterministic kernel on this GPU for {', '.join(event.names)}: the last bits of "
            "the weights differ between runs, as with train.deterministic = false, which is faster"
        ]
    if isinstance(event, WaitingForData):
        return [f"warning: the GPU waits {100 * event.share:.0f} % of the time for images; {event.cure}"]
    if isinstance(event, HealthWarning):
        return [*(f"unhealthy: {symptom}" for symptom in event.symptoms.values()), f"advice: {event.advice}"]
    return []


ENGINES: dict[str, Callable[..., AbstractContextManager[TrainJobs]]] = {"local": _open_local, "ray": _open_ray}
