"""Claim: a training that SIGKILL ends at random moments, and and is started again each time, ends in the same
bytes as one that nothing happened to. For ffdi that is so every time; for others it is as measured.

    python benchmarks/killed_trainings.py ffdi [--experiment quickstart] [--checkpoint-seconds 300]  the four commands
    python benchmarks/killed_trainings.py loop                               plain_loop.py: torch.save after each epoch
    python benchmarks/killed_trainings.py timm --script PATH                 timm's train.py, --resume last.pth.tar
    python benchmarks/killed_trainings.py own --first CMD --again CMD --saved GLOB --results GLOB    any other one

In commands and globs of `own`, {out} is the folder of a trial and {data} one with train/real, train/fake, val/real and
val/fake. A trial is killed --kills times, each time within --within seconds (one time, within the time of the unbroken
one), the whole process group at once; then it is let through. Results are compared as files; of PyTorch's own files
the weights are, bit by bit. Printed: whether two unbroken runs are alike; how many trials end like them, and how many
of those that had saved something when they were killed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

os.environ["OMP_NUM_THREADS"] = "1"  # two trials side by side
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests/ is not installed

from ffdi.core import manifests
from tests import conftest, faults

WEIGHTS = ("state_dict", "model")
"""Where PyTorch's checkpoints keep them."""
Words = list[str]


@dataclass(frozen=True)
class Trainer:
    """What is killed.

    Attributes:
        first, again: the commands for a trial's folder, at the start and after a kill.
        saved: whether a folder has something to go on from.
        results: what is compared.
        then: commands that follow at the end.
    """

    first: Callable[[Path], Words]
    again: Callable[[Path], Words]
    saved: Callable[[Path], bool]
    results: Callable[[Path], dict[str, object]]
    then: tuple[Words, ...] = ()


def ffdi(asked: argparse.Namespace, _data: Path) -> Trainer:
    """An experiment of this project; every file of it is compared, but for what clocks say."""
    commands = ("ensemble-submit", "export-onnx", "predict-onnx")
    train, *then = (
        [sys.executable, "-m", "invoke", name, "--experiment", asked.experiment] for name in ("train-folds", *commands)
    )
    then[-1] += ["--device", "cpu"]
    settings = Path("experiments") / asked.experiment / "config.toml"
    shipped = (conftest.PROJECT / settings).read_text()

    def words(root: Path) -> Words:
        (root / settings).parent.mkdir(parents=True, exist_ok=True)
        (root / settings).write_text(
            shipped.replace("[train]", f"[train]\ncheckpoint_seconds = {asked.checkpoint_seconds}")
        )
        return train

    def saved(root: Path) -> bool:
        folder = root / "experiments" / asked.experiment
        return any(True for name in ("checkpoint-*.json", "manifest.json") for _ in folder.glob(f"fold_*/{name}"))

    return Trainer(words, words, saved, faults.lasting, tuple(then))


def loop(_asked: argparse.Namespace, data: Path) -> Trainer:
    """What most people write."""
    script = Path(__file__).with_name("plain_loop.py")

    def words(root: Path) -> Words:
        return [sys.executable, str(script), str(data), str(root / "last.pth")]

    return Trainer(words, words, lambda root: (root / "last.pth").exists(), weights_of("last.pth"))


def timm(asked: argparse.Namespace, data: Path) -> Trainer:
    """timm's own script, with its own means of going on."""
    options = (
        "--model test_resnet --num-classes 2 --input-size 3 32 32 --batch-size 8 --epochs 12 --lr 3e-3 --opt adamw"
    )
    options += " --workers 1 --device cpu --model-ema --hflip 0.5 --output {out} --experiment run --data-dir {data}"
    last = "run/last.pth.tar"

    def first(root: Path) -> Words:
        return [sys.executable, asked.script, *shlex.split(options.format(out=root, data=data))]

    def again(root: Path) -> Words:
        return [*first(root), *(["--resume", str(root / last)] if (root / last).exists() else [])]

    return Trainer(first, again, lambda root: (root / last).exists(), weights_of(last))


def own(asked: argparse.Namespace, data: Path) -> Trainer:
    """Whatever the commands start."""

    def words(command: str) -> Callable[[Path], Words]:
        return lambda root: shlex.split(command.format(out=root, data=data))

    def saved(root: Path) -> bool:
        return any(True for _ in root.glob(asked.saved.format(out=".")))

    return Trainer(words(asked.first), words(asked.again), saved, weights_of(asked.results.format(out=".")))


def weights_of(pattern: str) -> Callable[[Path], dict[str, object]]:
    """Reads the files that a glob finds: bytes, or where PyTorch wrote them the weights."""

    def results(root: Path) -> dict[str, object]:
        return {str(path.relative_to(root)): contents(path) for path in sorted(root.glob(pattern))}

    return results


def contents(path: Path) -> str:
    """A hash of a file, or of the weights in it."""
    if path.suffix not in (".pth", ".pt", ".tar"):
        return manifests.hash_file(path)
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(path, map_location="cpu", weights_only=True)
    weights = next((content[key] for key in WEIGHTS if key in content), content)
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def call(words: Words, root: Path, seconds: float | None = None) -> int:
    """Runs a command, with all its processes killed after so many seconds; its exit code."""
    environment = {**os.environ, "FFDI_ROOT": str(root)}
    with (root.parent / f"{root.name}.log").open("ab") as log:
        process = subprocess.Popen(
            words, cwd=conftest.PROJECT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()


def finish(trainer: Trainer, root: Path, words: Words) -> dict[str, object]:
    """Lets a training through; what it came to."""
    for command in (words, *trainer.then):
        if (code := call(command, root)) != 0:
            return {"failed": f"{shlex.join(command)} ends with {code}"}
    return trainer.results(root)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("trainer", choices=TRAINERS)
    parser.add_argument("--experiment", default="quickstart")
    parser.add_argument("--script")
    for option in ("--first", "--again", "--saved", "--results"):
        parser.add_argument(option)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--within", type=float)
    parser.add_argument("--checkpoint-seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        return study(asked, Path(scratch).resolve())


def study(asked: argparse.Namespace, scratch: Path) -> int:
    """All trials of a trainer, two at a time; 0 where all end alike."""
    for split, count in (("train", 160), ("val", 32)):
        conftest.write_split(scratch / "data", split, count, 1)
        folders(scratch / "data", split)
    trainer = TRAINERS[asked.trainer](asked, scratch / "data")

    def unbroken(number: int) -> tuple[dict[str, object], float]:
        root, started = fresh(scratch, f"unbroken{number}"), time.monotonic()
        assert call(trainer.first(root), root) == 0, (scratch / f"unbroken{number}.log").read_text()[-3000:]
        seconds = time.monotonic() - started
        return finish(trainer, root, trainer.again(root)) if trainer.then else trainer.results(root), seconds

    with ThreadPoolExecutor(2) as pool:
        (expected, seconds), (second, _) = pool.map(unbroken, range(2))
        alike = "alike" if expected == second else f"other: {other(expected, second)}"
        print(f"two unbroken runs, {seconds:.0f} s each: {len(expected)} files, {alike}", flush=True)

        def trial(number: int) -> tuple[bool, bool, int]:
            rng, root = np.random.default_rng([asked.seed, number]), fresh(scratch, f"trial{number}")
            killed, saved, words = 0, False, trainer.first(root)
            for _ in range(asked.kills):
                if call(words, root, rng.uniform(0, asked.within or seconds)) == 0:
                    break
                killed, saved, words = killed + 1, trainer.saved(root), trainer.again(root)
            found = finish(trainer, root, words)
            outcome = "alike" if found == expected else f"other: {other(expected, found)}"
            print(f"trial {number}, killed {killed} times: {outcome}", flush=True)
            return found == expected, saved, killed

        outcomes = list(pool.map(trial, range(asked.trials)))
    after = [same for same, saved, _ in outcomes if saved]
    good = sum(same for same, *_ in outcomes)
    kills = sum(killed for *_, killed in outcomes)
    print(
        f"{good} of {len(outcomes)} end alike, after {kills} kills; "
        f"of those that had saved something {sum(after)} of {len(after)}"
    )
    return int(good < len(outcomes))


def fresh(scratch: Path, name: str) -> Path:
    root = scratch / name
    root.mkdir()
    return root


def other(expected: dict[str, object], found: dict[str, object]) -> str:
    """Which files differ."""
    names = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    return ", ".join(str(found[name]) if name == "failed" else name for name in names)


def folders(data: Path, split: str) -> None:
    """The images of a split as folders of classes."""
    for line in (data / f"{split}set_label.txt").read_text().splitlines()[1:]:
        name, label = line.split(",")
        link = data / split / ("fake" if label == "1" else "real") / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(data / f"{split}set" / name)


TRAINERS: dict[str, Callable[[argparse.Namespace, Path], Trainer]] = {
    "ffdi": ffdi,
    "loop": loop,
    "timm": timm,
    "own": own,
}

if __name__ == "__main__":
    sys.exit(main())
