"""Claims: however often checkpoints are asked for, they cost at most 3.5 % of a training; a training that SIGTERM tells
to end writes one and has left within 10 s.

    python benchmarks/checkpoint_cost.py [--seconds 180] [--rounds 5] [--size 80] [--backbone resnet18]

The backbone is trained on drawn portraits for --seconds, with `train.checkpoint_seconds` at a millisecond. Training
pauses while a checkpoint is written, so the clock around the writing measures its cost. Then train-folds is started
--rounds times, and stopped 5 to 15 s after it has found its images.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import trained

from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.data.labels import layout
from ffdi.data.loading import loader
from ffdi.experiments.checkpoint import Checkpoints
from ffdi.models import detector
from ffdi.training import fold
from ffdi.training.checkpointing import CheckpointManager
from ffdi.training.loop import Step, fit
from ffdi.training.runtime import device
from ffdi.training.state import TrainingState

IMAGES = 320
CONFIG = """
[model]
backbone = "{backbone}"
pretrained = false
size = {size}
[train]
epochs = 1000
batch_size = 32
ema_decay = 0.9
[augment]
recipe = "light"
"""


class Timed(CheckpointManager):
    """Counts what it writes, and the seconds that it takes."""

    count, seconds, size = 0, 0.0, 0

    def save(self, state: TrainingState) -> None:
        """Writes a checkpoint, by the clock."""
        started = time.perf_counter()
        super().save(state)
        self.count, self.seconds = self.count + 1, self.seconds + time.perf_counter() - started
        self.size = max(path.stat().st_size for path in self.checkpoints.folder.iterdir())


def cost(root: Path, config: Config, seconds: float) -> None:
    """Trains for so long and prints what went into checkpoints."""
    where = device.choose_device("auto", config.train.precision, 0)
    table = layout.find_dataset(root / "data", config.data).split("train")
    state = TrainingState.create(where.prepare(detector.build_detector(config.model, None)), config.train, where)
    batches, reading = (
        loader.make_train_loader(table, config, fold=0, loader_config=loader.LoaderConfig()),
        fold.make_eval_batches(table, config, where),
    )
    saving = Timed(Checkpoints(root / "checkpoints", {}), 0.001, where.describe_machine(True, 1))
    started = time.perf_counter()
    for event in fit(state, batches, reading, config, where, 0):
        if isinstance(event, Step):
            saving.save_if_due(state)
        if time.perf_counter() - started > seconds:
            break
    share = saving.seconds / (time.perf_counter() - started)
    print(
        f"{saving.count} checkpoints of {saving.size / 2**20:.0f} MiB in {seconds:.0f} s, "
        f"{saving.seconds / saving.count:.2f} s each: {100 * share:.2f} % of the time"
    )


def leaving(root: Path, number: int) -> float:
    """Seconds from SIGTERM to the end of train-folds."""
    words = [*trained.make_command("train-folds"), "--data", str(root / "data"), "--restart"]
    process = subprocess.Popen(
        words, cwd=trained.PROJECT, env=trained.environment(root), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    while b"data:" not in process.stdout.readline():
        pass
    time.sleep(random.Random(number).uniform(5, 15))
    process.send_signal(signal.SIGTERM)
    started = time.perf_counter()
    output = process.stdout.read().decode()
    assert process.wait() == 143, output
    assert "stopped (SIGTERM)" in output
    return time.perf_counter() - started


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--backbone", default="resnet18")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        trained.draw_all(root, IMAGES)
        path = root / "experiments" / trained.NAME / "config.toml"
        path.parent.mkdir(parents=True)
        path.write_text(CONFIG.format(backbone=asked.backbone, size=asked.size))
        cost(root, schema.load_experiment(path), asked.seconds)
        seconds = [leaving(root, number) for number in range(asked.rounds)]
    print(f"gone after SIGTERM in {', '.join(f'{one:.1f}' for one in seconds)} s (bound 10)")


if __name__ == "__main__":
    main()
