"""The steps `bits`, `sync` and `ranks`: the same weights, no wait for the device, and one process through DDP."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
import train_speed
from torch import nn
from train_speed import Course, Training

from ffdi.core import manifests
from ffdi.data.loading import loader
from ffdi.data.loading.loader import Batch
from ffdi.experiments.fold import FoldFolder, Identity
from ffdi.models import detector
from ffdi.training import checkpointing, fold
from ffdi.training.checkpointing import ResumeEvent
from ffdi.training.fold import FoldEvents, FoldJob, TrainingPlan
from ffdi.training.loop import CHECK_EVERY, Step, fit
from ffdi.training.runtime import distributed
from ffdi.training.runtime.device import Device
from ffdi.training.state import TrainingState
from gpu_steps import processes, rates
from gpu_steps.host_reads import HostReads
from gpu_steps.processes import Send
from gpu_steps.run import Run

EPOCHS, STEPS = 2, 20
"""Of a training in `bits`: 40 steps."""
KILLED_AFTER = 13
FOLDS = 5
CHILD_SECONDS = 240
"""The time limit of a process that `bits` starts."""
NO_PROMISE = "not deterministic"
MODES = {"deterministic": True, NO_PROMISE: False}
SYNC_CASES: dict[str, dict[str, Any]] = {
    "bf16": {},
    "fp16": {},
    "fp16, SAM": {"train": {"sam_rho": 0.05}},
    "fp16, micro-batches": {"train": {"micro_batches": 2}},
    "fp16, mixup and cutmix": {"augment": {"mixup": 0.2, "cutmix": 1.0}},
}
"""The precision and the sections of config.toml that `sync` trains with; only fp16 scales the loss."""
COMPARED_STEPS = 10
"""Steps of `ranks` after which weights are compared."""
SAME = 1e-3
"""Largest difference of weights with and without DDP, in parts of their norm, that counts as the same training."""


def bits(run: Run) -> None:
    """Trains each backbone twice, in two processes, and once in a process that is killed and one that resumes."""
    for backbone, mode in _list_trainings(run):
        with run.attempt(f"{backbone}, {mode}"):
            _finish(_train(run, backbone, mode, "first"))
    how = processes.call(_be_killed, (run.cpu, run.root), CHILD_SECONDS, run.send)
    run.record("the process that is killed", how, ok=how == "was ended by SIGKILL")
    if fault := processes.call(_train_again, (run.cpu, run.root), CHILD_SECONDS, run.send):
        run.record("the process that trains again", fault, ok=False)
    for backbone, mode in _list_trainings(run):
        promised = mode == "deterministic"
        for name, what in {"second": "trained twice", **({"killed": "killed and resumed"} if promised else {})}.items():
            first, other = (_hash_results(run, backbone, mode, one) for one in ("first", name))
            value = "other bits" if first != other else "same bits" if first else "did not finish"
            run.record(f"{backbone}, {mode}, {what}", value, ok=value == "same bits" if promised else None, note=first)
    for backbone in run.scale.backbones:
        with run.attempt(f"{backbone}, cost"):
            _record_cost(run, backbone)


def _list_trainings(run: Run) -> list[tuple[str, str]]:
    """The backbones and modes that are trained twice."""
    return [*((backbone, "deterministic") for backbone in run.scale.backbones), (run.scale.backbones[0], NO_PROMISE)]


def _train(run: Run, backbone: str, mode: str, name: str, **settings: float) -> FoldEvents:
    """The events of a fold's training, as train-folds makes them."""
    count = run.scale.small_batch * STEPS * FOLDS // (FOLDS - 1)
    train = {"epochs": EPOCHS, "batch_size": run.scale.small_batch, "sampling": "all", **settings}
    train["deterministic"] = MODES[mode]
    config = run.build_config(backbone, run.scale.bits_size, train=train)
    plan = TrainingPlan(
        config,
        Identity.from_config(config, "drawn"),
        run.table.take(np.arange(count)),
        fold_of=np.arange(count) % FOLDS,
        folds_digest="drawn",
        weights=None,
        val=None,
    )
    folder = _get_folder(run, backbone, mode, name)
    folder.folder.mkdir(parents=True, exist_ok=True)
    return fold.train(FoldJob(plan, folder, run.device.precision), run.device)


def _get_folder(run: Run, backbone: str, mode: str, name: str) -> FoldFolder:
    return FoldFolder(run.root / "bits" / f"{backbone}, {mode}, {name}", 0)


def _finish(events: FoldEvents) -> None:
    for _ in events:
        pass


def _be_killed(send: Send, cpu: bool, root: Path) -> None:
    """Takes every backbone to step 13, with a checkpoint after each step, and kills this process."""
    run = Run("bits", cpu, root, send)
    trainings = []
    with mock.patch.object(checkpointing, "MAX_TIME_FRACTION", float("inf")):
        for backbone in run.scale.backbones:
            with run.attempt(f"{backbone}, to be killed"):
                trainings.append(_train(run, backbone, "deterministic", "killed", checkpoint_seconds=1e-6))
                steps = (event for event in trainings[-1] if isinstance(event, Step))
                next(islice(steps, KILLED_AFTER - 1, None))
    os.kill(os.getpid(), signal.SIGKILL)


def _train_again(send: Send, cpu: bool, root: Path) -> None:
    """Resumes what was killed, and trains everything a second time."""
    run = Run("bits", cpu, root, send)
    for backbone in run.scale.backbones:
        with run.attempt(f"{backbone}, to be resumed"):
            events = _train(run, backbone, "deterministic", "killed")
            found = next(events)
            step = found.epoch * STEPS + found.step if isinstance(found, ResumeEvent) else 0
            run.record(f"{backbone}, resumes after step", step, ok=step == KILLED_AFTER)
            _finish(events)
    for backbone, mode in _list_trainings(run):
        with run.attempt(f"{backbone}, {mode}, again"):
            _finish(_train(run, backbone, mode, "second"))


def _hash_results(run: Run, backbone: str, mode: str, name: str) -> str:
    """A hash of the weights and predictions of a training; empty if it did not finish."""
    folder = _get_folder(run, backbone, mode, name)
    paths = (folder.weights_path, folder.oof_path)
    return "-".join(manifests.hash_file(path)[:8] for path in paths) if folder.manifest_path.exists() else ""


def _record_cost(run: Run, backbone: str) -> None:
    """The speed of steps on a resident batch, with and without deterministic operations, in turns."""
    course = replace(start_course(run), backbone=backbone, size=run.scale.bits_size)
    training, batch = train_speed.start_training(course), train_speed.make_resident_batch(course)

    def measure(mode: str) -> float:
        with run.device.deterministic(MODES[mode]):
            return rates.run_for(repeat_step(training, batch), run.scale.seconds / 2, run.device)

    results = rates.take_turns({mode: partial(measure, mode) for mode in MODES}, run.scale.rounds)
    rates.record_spread(run, f"{backbone}, speed deterministic / not", results["deterministic"] / results[NO_PROMISE])


def start_course(run: Run) -> Course:
    """Resident batches of the usual size."""
    return Course(run.root, run.device, "flips", run.scale.backbone, run.scale.size, run.scale.batch_size)


def repeat_step(training: Training, batch: Batch) -> Iterator[int]:
    for _ in repeat(None):
        training.step(batch)
        yield len(batch.index)


def sync(run: Run) -> None:
    """Trains 19 steps in which a wait for the device is an error; the loop itself waits in each 20th."""
    steps = CHECK_EVERY - 1
    if run.cpu:
        run.record("on this CPU", "nothing waits: values that Python reads from tensors are refused instead")
    with run.attempt("the check itself"):
        network = nn.Linear(1, 1).to(run.device.torch)
        try:
            with refuse_waits(run, network):
                network.weight.sum().item()
        except RuntimeError as error:
            found = "reads values" if run.cpu else "synchronizing"  # the words of HostReads, and of torch
            run.record("a planted wait is found", str(error).splitlines()[0], ok=found in str(error))
        else:
            run.record("a planted wait is found", "no", ok=False)
    for name, sections in SYNC_CASES.items():
        with run.attempt(name):
            device = replace(run.device, precision=name.partition(",")[0])
            batch = _train_without_waits(run, device, sections, steps)
            run.record(name, f"{steps} steps without a wait", ok=True)
            if not run.cpu:  # the mode does not see that copies wait whose memory is not pinned
                run.record(f"{name}, batches are pinned", batch.images.is_pinned(), ok=batch.images.is_pinned())


def _train_without_waits(run: Run, device: Device, sections: dict[str, Any], steps: int) -> Batch:
    """Trains so many steps; returns a batch of the loader."""
    train = {"batch_size": run.scale.small_batch, "sampling": "all", **sections.get("train", {})}
    config = run.build_config(**{**sections, "train": train})
    state = TrainingState.create(device.prepare(detector.build_initialized(config, None)), config.train, device)
    batches = loader.make_train_loader(run.table, config, fold=0, loader_config=device.loader_config)
    events = fit(state, batches, fold.make_eval_batches(run.table, config, device), config, device, seed=0)
    with device.deterministic(), refuse_waits(run, state.detector):
        for _ in range(steps):
            assert isinstance(next(events), Step)
    del events  # it reads from the loader
    return next(batches.iterate_epoch(0))


@contextmanager
def refuse_waits(run: Run, network: nn.Module) -> Iterator[None]:
    """Inside, an operation that waits for the device raises a RuntimeError."""
    if run.cpu:
        with HostReads(network):
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def ranks(run: Run) -> None:
    """Trains with one process in a process group, through DDP, and without."""
    course = start_course(run)
    batch = train_speed.make_resident_batch(course)
    rendezvous = run.root / f"rendezvous-{os.getpid()}"
    with run.device.deterministic(), distributed.process_group(0, 1, rendezvous, run.device):
        trainings = {name: train_speed.start_training(course) for name in ("plain", "DDP")}
        with mock.patch.object(distributed, "get_world_size", return_value=2):  # one process would not be wrapped
            trainings["DDP"].network = distributed.wrap_ddp(trainings["DDP"].network, run.device)

        def make_steps(name: str, steps: Iterator[int]) -> Iterator[int]:
            """Steps in the process group, or as if there were none."""
            while True:
                with mock.patch.object(dist, "is_initialized", return_value=name == "DDP"):
                    images = next(steps)
                yield images

        steps = {name: make_steps(name, repeat_step(training, batch)) for name, training in trainings.items()}
        for name in steps:
            torch.manual_seed(0)
            for _ in range(COMPARED_STEPS):
                next(steps[name])
        _record_difference(run, *(training.state for training in trainings.values()))
        turns = {name: partial(rates.run_for, steps[name], run.scale.seconds, run.device) for name in steps}
        rates.record_ratios(run, rates.take_turns(turns, run.scale.rounds), "plain")


def _record_difference(run: Run, plain: TrainingState, wrapped: TrainingState) -> None:
    one, other = (
        torch.cat([value.flatten().double() for value in state.state_dict().values()]) for state in (plain, wrapped)
    )
    difference = ((one - other).norm() / one.norm()).item()
    value = "same bits" if torch.equal(one, other) else f"differ by {difference:.1e} of their norm"
    run.record(f"weights and optimizer after {COMPARED_STEPS} steps", value, ok=difference <= SAME)
