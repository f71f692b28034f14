"""The step `oom`: short memory ends in one sentence, or in smaller parts."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import train_speed

from ffdi.core.errors import TrainingError
from ffdi.data.images.cache import read_resized
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.loading.loader import Batch
from ffdi.evaluation.predictions import sigmoid
from ffdi.export.equivalence import TOLERANCE
from ffdi.models.detector import Scorer
from ffdi.training.predict import PartwiseRunner
from ffdi.training.runtime import device as devices
from gpu_steps.run import Run
from gpu_steps.training import start_course

SHARE = 16
"""The pixels of a batch that is far too large take a 16th of the memory; what a step computes from them takes more
than 70 times as much as the pixels."""
MAX_BATCH = 65_536
"""The largest train.batch_size."""
CPU_BYTES = 2**28
"""The memory of a rehearsal."""
MMAP_THRESHOLD, LARGE_BYTES = -3, 2**18
"""A parameter of glibc's mallopt: the bytes of an allocation from which on it has pages of its own."""


def oom(run: Run) -> None:
    """Trains on a batch that is far too large for the memory, and scores it."""
    if run.cpu and sys.platform != "linux":
        run.record("memory is short", None, note="only Linux limits the memory of a process: not rehearsed here")
        return
    course = start_course(run)
    training = train_speed.start_training(course)
    resident = train_speed.make_resident_batch(course)
    training.step(resident)  # what is allocated once
    total = _limit_memory() if run.cpu else torch.cuda.mem_get_info(run.device.torch)[1]
    count = min(MAX_BATCH, total // SHARE // (3 * run.scale.size**2))
    rows = np.arange(min(run.scale.batch_size, len(run.table)))
    some = np.stack([read_resized(run.table, row, ResizePolicy(run.scale.size)) for row in rows.tolist()])
    images = torch.from_numpy(some[np.resize(rows, count)])
    run.record("images in a batch", count, note=f"{count * some[0].nbytes / 2**30:.2f} of {total / 2**30:.2f} GiB")
    with run.attempt("training"):
        config = run.build_config(train={"batch_size": count})
        target = (torch.arange(count) % 2).float()
        try:
            with devices.explain_oom(config, run.device):
                training.step(Batch(images, target, torch.arange(count)))
        except TrainingError as error:
            one_sentence = "\n" not in error.what and error.hint.startswith("set train.micro_batches = 2, or")
            run.record("training", error.what, ok=one_sentence, note=f"next: {error.hint}")
        else:
            run.record("training", "memory was not short", ok=False)
    gc.collect()  # the error has kept the tensors of the step
    run.device.free_cache()
    with run.attempt("training afterwards"):
        training.step(resident)
        run.record("training afterwards", "a step of the usual size", ok=True)
    with run.attempt("scoring"):
        _score(run, Scorer(training.state.eval_model.eval(), "hflip"), images, rows)


def _score(run: Run, scorer: Scorer, images: torch.Tensor, rows: np.ndarray) -> None:
    """Scores the large batch, and its different images as a batch of their own."""
    sizes: list[int] = []

    def score(part: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = scorer(part)
        sizes.append(len(part))
        return logits

    with torch.inference_mode(), devices.disable_tf32():
        large, small = (
            sigmoid(PartwiseRunner(score, run.device)(run.device.send(batch)).float().cpu().numpy())
            for batch in (images, images[: len(rows)])
        )
    difference = float(np.abs(large - small[np.resize(rows, len(images))]).max())
    run.record("scoring, images in a part", sizes[0], ok=sizes[0] < len(images), note=f"of {len(images)}")
    run.record("scoring, largest difference from a small batch", difference, ok=difference <= TOLERANCE)


def _limit_memory() -> int:
    """Limits the address space of this process to CPU_BYTES more than it has, which are returned.

    Each large tensor gets a place of its own from here on, which ends with it: places that malloc keeps in its heap for
    later tensors would count as taken, and where they are is a matter of chance.
    """
    import resource

    with suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE_BYTES)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + CPU_BYTES, resource.RLIM_INFINITY))
    return CPU_BYTES
