"""Claims: if one of the four commands is killed anywhere, the same commands end in the same bytes of every file; if a
disk call fails, the error says so, the old files are unchanged, and the same command ends in the same bytes; a
run with workers ends in the bytes of one without; a lock is free the moment its holder dies; no changed bit passes;
a link in place of whatever path a command touches leads no command to change anything behind it.

    python benchmarks/faults.py kills      SIGKILL at a random moment, half of them in the training, 200 times
    python benchmarks/faults.py calls      SIGKILL at every call that creates, flushes, renames or removes a file
    python benchmarks/faults.py native     the same by strace, in a training's busiest thread: also what libraries do
    python benchmarks/faults.py errnos     ENOSPC, EIO and EACCES from every call (of export-onnx one in turn)
    python benchmarks/faults.py workers    0, 2 and 4 of them, unbroken and killed
    python benchmarks/faults.py locks      a training with workers is killed and the next one is let in, 100 times
    python benchmarks/faults.py flips      10,000 changed bits, changed bytes, cuts and additions in every kind of file
    python benchmarks/faults.py links      a link in place of each path that any command writes, moves or removes

The commands are those of the tests, on the tests' competition, in processes of their own, two at a time (--at-once);
--count makes samples larger or smaller. Whatever does not hold is printed; ends with 1 if anything does. Other
experiments, and other people's trainers: killed_trainings.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

os.environ["OMP_NUM_THREADS"] = "1"  # two commands side by side
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests/ is not installed

from ffdi.core.errors import ExperimentError
from ffdi.experiments.experiment import Experiment
from tests import conftest, faults, planting, test_faults, test_flips
from tests.faults import Ended, Fault

Place = TypeVar("Place")
Outcome = tuple[str, str]
"""What was done, and what came of it: 'as it should', or in words what did not."""
GOOD = "as it should"
AT_ONCE = 2
"""Commands side by side."""
KINDS = ("ENOSPC", "EIO", "EACCES")


class Ground:
    """The unbroken run, step by step, and copies of what stood there before each step.

    Attributes:
        steps: the commands.
        ends: how each of them ended.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.competition = scratch, scratch / "competition"
        conftest.write_competition(self.competition)
        of = ["--experiment", "tiny"]
        self.steps = [
            ["train-folds", *of, "--data", str(self.competition)],
            ["ensemble-submit", *of],
            ["export-onnx", *of],
            ["predict-onnx", *of, "--device", "cpu"],
        ]
        self.ends: list[Ended] = []
        self._unbroken()  # what is imported later than at the start is imported once
        self.ends = self._unbroken()

    def _unbroken(self) -> list[Ended]:
        shutil.rmtree(self.scratch / "root", ignore_errors=True)
        root, ends = test_faults.workspace(self.scratch / "root"), []
        for number, words in enumerate(self.steps):
            shutil.rmtree(self.before(number), ignore_errors=True)
            shutil.copytree(root, self.before(number))
            ends.append(faults.run(words, root))
            assert ends[-1].code == 0, ends[-1].output
        shutil.rmtree(self.before(len(self.steps)), ignore_errors=True)
        shutil.copytree(root, self.before(len(self.steps)))
        return ends

    def before(self, step: int) -> Path:
        """The workspace as it was before a step, or after the last one."""
        return self.scratch / f"before{step}"

    def copy(self, step: int, name: str) -> Path:
        """That workspace, to be harmed."""
        root = self.scratch / name
        shutil.copytree(self.before(step), root)
        return root

    def finish(self, root: Path, first: int, last: int) -> str:
        """Calls steps `first` to `last`; what is not as after the unbroken ones."""
        for words in self.steps[first : last + 1]:
            ended = faults.run(words, root)
            if ended.code != 0:
                return f"{words[0]} ends with {ended.code}: {ended.output}"
        return self.differences(root, last + 1)

    def differences(self, root: Path, step: int) -> str:
        """Which files are not as they were before a step."""
        found, expected = faults.lasting(root), faults.lasting(self.before(step))
        other = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        return f"other: {', '.join(other)}" if other else GOOD


def kills(ground: Ground, count: int) -> Iterator[Outcome]:
    """SIGKILL at a random moment of a command; then it and those after it."""
    rng = np.random.default_rng(1)
    others = [1, 2, 3]
    plan = [(0 if number % 2 == 0 else others[number // 2 % 3], rng.random()) for number in range(count)]

    def once(number: int) -> Outcome:
        step, share = plan[number]
        root = ground.copy(step, f"kill{number}")
        ended = faults.run(ground.steps[step], root, Fault("SIGKILL", seconds=share * ground.ends[step].seconds))
        what = f"{ground.steps[step][0]}, {'killed' if ended.code == -9 else 'over before'}"
        return what, tidy(root, ground.finish(root, step, 3))

    yield from side_by_side(once, range(count))


def calls(ground: Ground, count: int) -> Iterator[Outcome]:
    """SIGKILL at every call of every command, or at `count` of them."""

    def once(place: tuple[int, int]) -> Outcome:
        step, call = place
        root = ground.copy(step, f"call{step}-{call}")
        ended = faults.run(ground.steps[step], root, Fault("SIGKILL", call))
        what = f"{ground.steps[step][0]}, at {ground.ends[step].calls[call - 1].split()[0]}"
        if ended.code != -9:
            return what, tidy(root, f"call {call} was never made: {ended.output}")
        return what, tidy(root, ground.finish(root, step, step))

    yield from side_by_side(once, some(every_call(ground), count))


def errnos(ground: Ground, count: int) -> Iterator[Outcome]:
    """Each call of every command fails, once where its results do not stand yet and once where they do."""

    def once(place: tuple[int, int, str, bool]) -> Outcome:
        step, call, kind, again = place
        start = step + 1 if again else step
        root = ground.copy(start, f"errno{step}-{call}-{kind}-{again}")
        ended = faults.run(ground.steps[step], root, Fault(kind, call))
        what = f"{ground.steps[step][0]}{' again' if again else ''}, {kind}"
        if fault := reported(ended) or kept(ground, root, start):
            return what, tidy(root, f"call {call}: {fault}")
        return what, tidy(root, ground.finish(root, step, step))

    def kinds(step: int, call: int) -> tuple[str, ...]:
        """All, but of export-onnx, which takes ten seconds, one in turn."""
        return KINDS[call % 3 : call % 3 + 1] if ground.steps[step][0] == "export-onnx" else KINDS

    rerun = [1, 2, 3]  # a training that is complete writes nothing
    places = [(*place, kind, False) for place in every_call(ground) for kind in kinds(*place)]
    places += [(*place, kind, True) for place in every_call(ground) if place[0] in rerun for kind in kinds(*place)]
    yield from side_by_side(once, some(places, count))


def reported(ended: Ended) -> str:
    """What is wrong with how a failure was reported; empty where nothing is."""
    if ended.code == 0:
        return ""
    reported = "error: " in ended.output and "next: " in ended.output and "Traceback" not in ended.output
    return "" if ended.code == 1 and reported else f"ends with {ended.code}: {ended.output}"


def kept(ground: Ground, root: Path, start: int) -> str:
    """Which files that stood there have gone or changed."""
    found, before = faults.lasting(root), faults.lasting(ground.before(start))
    lost = sorted(name for name, content in before.items() if found.get(name) != content)
    return f"lost or changed: {', '.join(lost)}" if lost else ""


def native(ground: Ground, count: int) -> Iterator[Outcome]:
    """SIGKILL by strace at each call of a training's busiest thread that flushes, renames, removes or makes something,
    those that libraries make included."""
    assert shutil.which("strace"), "strace is not installed"
    words = [sys.executable, "-m", "invoke", *ground.steps[0]]
    kinds = {
        "fsync": "fsync",
        "rename": "rename,renameat,renameat2",
        "unlink": "unlink,unlinkat",
        "mkdir": "mkdir,mkdirat",
    }

    def traced(root: Path, options: list[str]) -> subprocess.CompletedProcess[str]:
        """Without --seccomp-bpf, which is faster, and injects nothing."""
        environment = {**os.environ, "FFDI_ROOT": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            ["strace", "-f", *options, *words],
            cwd=conftest.PROJECT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def length(kind: str) -> int:
        root = ground.copy(0, f"count-{kind}")
        log = ground.scratch / f"{kind}.log"
        assert traced(root, ["-o", str(log), "-e", f"trace={kinds[kind]}"]).returncode == 0
        shutil.rmtree(root)
        threads = Counter(line.split()[0] for line in log.read_text().splitlines() if "(" in line)
        return max(threads.values())  # strace counts the calls of each thread apart

    def once(place: tuple[str, int]) -> Outcome:
        kind, call = place
        root = ground.copy(0, f"{kind}{call}")
        inject = f"inject={kinds[kind]}:signal=KILL:when={call}"
        ended = traced(root, ["-o", "/dev/null", "-e", f"trace={kinds[kind]}", "-e", inject])
        what = f"train-folds, {kind}, {'killed' if ended.returncode in (-9, 137) else 'over before'}"
        return what, tidy(root, ground.finish(root, 0, 0))

    places = [(kind, call) for kind in kinds for call in range(1, length(kind) + 1)]
    yield from side_by_side(once, some(places, count))


def workers(ground: Ground, count: int) -> Iterator[Outcome]:
    """Trainings with 0, 2 and 4 workers, unbroken and killed."""
    rng = np.random.default_rng(2)
    words = ground.steps[0]
    for number in (0, 2, 4):
        with_workers = [*words, "--workers", str(number)]
        root = ground.copy(0, f"workers{number}")
        ended = faults.run(with_workers, root)
        yield f"{number} workers, unbroken", tidy(root, ground.differences(root, 1))
        for share in rng.random(count):
            root = ground.copy(0, f"workers{number}")
            killed = faults.run(with_workers, root, Fault("SIGKILL", seconds=share * ended.seconds))
            faults.run(with_workers, root)
            what = f"{number} workers, {'killed' if killed.code == -9 else 'over before'}"
            yield what, tidy(root, ground.differences(root, 1))


def locks(ground: Ground, count: int) -> Iterator[Outcome]:
    """A training with two workers is killed while it holds the lock; it is requested at once."""
    words = [*ground.steps[0], "--workers", "2"]
    first = next(number for number, call in enumerate(ground.ends[0].calls, 1) if ".lock.pid" in call)
    last = max(number for number, call in enumerate(ground.ends[0].calls, 1) if ".lock.pid" in call)
    for call in np.linspace(first + 1, last, count).astype(int):
        root = ground.copy(0, "lock")
        ended = faults.run(words, root, Fault("SIGKILL", int(call)))
        assert ended.code == -9, ended.output
        try:
            with Experiment(root / "experiments" / "tiny").lock():
                outcome = GOOD
        except ExperimentError as error:
            outcome = error.what
        yield "killed with 2 workers", tidy(root, outcome)


def flips(ground: Ground, count: int) -> Iterator[Outcome]:
    """Bits, bytes, cuts and additions in every file of a workspace with every kind of file."""
    root = ground.copy(4, "flips")
    test_flips.make_complete(root, ground.competition)
    slipped = [(path, f"change {number} is not seen") for path, number in test_flips.slips(root, count, seed=2)]
    kinds = Counter(path.suffix for path in test_flips.artefacts(root))
    yield from ((f"{path.suffix} files", outcome) for path, outcome in slipped)
    yield from ((f"changes of {len(kinds)} kinds of files", GOOD) for _ in range(count - len(slipped)))


def links(scratch: Path, count: int) -> Iterator[Outcome]:
    """A link in place of each path that a command writes, moves or removes: to a copy of the file, to nothing."""
    conftest.write_competition(scratch / "competition")
    chain = list(planting.grow(scratch, planting.steps(scratch / "competition")))
    paths = {path for grown in chain for path in grown.paths}
    pairs = sum(len(grown.paths) for grown in chain)
    print(f"{len(chain)} commands touch {len(paths)} paths: {pairs} pairs of a command and a path", flush=True)

    def once(place: tuple[int, int]) -> Outcome:
        step, number = place
        grown = chain[step]
        plant = grown.plants()[number]
        ended, changed = planting.harm(grown, plant, scratch / f"links{step}-{number}")
        what = f"{grown.step.label}, {'continues' if ended.code == 0 else 'is refused'}"
        fault = planting.fault(ended, changed)
        return what, f"{plant.path} ({plant.kind}): {fault}" if fault else GOOD

    places = [(step, number) for step, grown in enumerate(chain) for number in range(len(grown.plants()))]
    yield from side_by_side(once, some(places, count))


def every_call(ground: Ground) -> list[tuple[int, int]]:
    """Step and number of each call."""
    return [(step, call) for step, ended in enumerate(ground.ends) for call in range(1, len(ended.calls) + 1)]


def some(places: list[Place], count: int) -> list[Place]:
    """All, or evenly spread `count` of them."""
    return places if not count else [places[int(at)] for at in np.linspace(0, len(places) - 1, count)]


def side_by_side(once: Callable[[Place], Outcome], places: Iterable[Place]) -> Iterator[Outcome]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(once, places)


def tidy(root: Path, outcome: str) -> str:
    """Removes a workspace, once it has been looked at."""
    shutil.rmtree(root)
    return outcome


def on_ground(study: Callable[[Ground, int], Iterator[Outcome]]) -> Callable[[Path, int], Iterator[Outcome]]:
    """A study that begins with the unbroken run."""
    return lambda scratch, count: study(Ground(scratch), count)


STUDIES: dict[str, tuple[Callable[[Path, int], Iterator[Outcome]], int]] = {
    "kills": (on_ground(kills), 200),
    "calls": (on_ground(calls), 0),
    "native": (on_ground(native), 0),
    "errnos": (on_ground(errnos), 0),
    "workers": (on_ground(workers), 5),
    "locks": (on_ground(locks), 100),
    "flips": (on_ground(flips), 10_000),
    "links": (links, 0),
}
"""What to call, and how often; 0 where there are as many as there are."""


def main() -> int:
    """Runs a study and prints what came of it."""
    global AT_ONCE
    parser = argparse.ArgumentParser()
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--count", type=int)
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    asked = parser.parse_args()
    AT_ONCE = asked.at_once
    study, usual = STUDIES[asked.study]
    found: Counter[str] = Counter()
    good: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        for what, outcome in study(Path(scratch).resolve(), usual if asked.count is None else asked.count):
            found[what] += 1
            good[what] += outcome == GOOD
            if outcome != GOOD:
                print(f"{what}: {outcome}", flush=True)
    for what, count in sorted(found.items()):
        print(f"{what:50}{good[what]:6} of {count}")
    print(f"{'all':50}{good.total():6} of {found.total()}")
    return int(good != found)


if __name__ == "__main__":
    sys.exit(main())
