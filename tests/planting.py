"""Replaces each path that a command uses by a link to foreign files, one at a time, and checks the foreign files.

A link to a folder leads to a copy of the original folder, with files of all names that ffdi reads. A link to a file
leads to a copy of the file. A third kind of link is broken.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ffdi.core import manifests
from tests import faults
from tests.conftest import TINY
from tests.faults import Ended, Fault

ROOTS = ("experiments", "exports", "data", "out")
"""Folders of the workspace that may be links themselves; `out` is that of an --output."""
CONFIG = TINY.replace("ema_decay = 0.9", "ema_decay = 0.9\ncheckpoint_seconds = 0.001")
TEMPORARY = re.compile(r"\.(.+)\.[0-9]+\.tmp")
RANDOM = re.compile(r"\.tmp[A-Za-z0-9]{6}|tmp[a-z0-9_]{8}|#[0-9]+")
"""Unpredictable names; a writer refuses an existing file of such a name."""
LIBRARIES = {f"data/findings.sqlite{ending}" for ending in ("", "-journal", "-wal", "-shm")}
"""Paths that SQLite opens, of which Python's hooks say nothing, and which are gone at the end."""
LOOKING = ("doctor", "cache", "find-lr", "train-folds", "sweep", "score")
"""Commands that scan images, and open the scan store."""
FOREIGN = (
    "checkpoint-000000009.json",
    "checkpoint-000000009.safetensors",
    "config.toml",
    "fold_0/weights.safetensors",
    "fold_7/manifest.json",
    "golden/golden.csv",
    "index",
    "pack",
    "new/notes.txt",
    "old/notes.txt",
    "old/oof.csv",
    "old/scores.csv",
    "runtime",
    "thesis.json",
    ".lock",
    ".lock.pid",
    ".scores.csv.1.tmp/old/scores.csv",
    ".tmpAbCdEf",
)
"""Foreign files in the target folder of a link."""
BEFORE = ".before"
"""The result of `seen` before the command."""
SHOWN = ("--profile", "--tensorboard", "--restart", "--stress", "--reencoded", "--output", "--selftest", "--dry-run")
STAND_IN = "#!/bin/sh\necho 'Submission ref: 4711'\n"


class Step(NamedTuple):
    """A command, and its workspace before.

    Attributes:
        words: as a person types them.
        killed: what was called before, and killed.
        call: of the kill, as a part of its description.
    """

    words: list[str]
    killed: Sequence[str] = ()
    call: str = ""

    @property
    def label(self) -> str:
        """What a table calls it."""
        flags = [word for word in self.words if word in SHOWN]
        return " ".join([self.words[0], *flags, *(["after a kill"] if self.killed else [])])


def steps(competition: Path) -> list[Step]:
    """Every command, in an order in which each one finds its input."""
    of, data, cpu = ["--experiment", "tiny"], ["--data", str(competition)], ["--device", "cpu"]
    output = ["predict-onnx", *of, *cpu, "--output", "{root}/out/scores.csv"]
    return [
        Step(["doctor", *of, *data, "--reencoded"]),
        Step(["cache", *of, *data]),
        Step(["find-lr", *of, *data, "--steps", "20"]),
        Step(["train-folds", *of, *data, "--tensorboard"]),
        Step(
            ["train-folds", *of, *data],
            ["train-folds", *of, *data, "--restart"],
            "os.rename experiments/tiny/fold_1/.ch",
        ),
        Step(["train-folds", *of, *data, "--restart"]),
        Step(["sweep", *of, *data, "--set", "train.lr=3e-3,4e-3"]),
        Step(["score", *of, "--stress", "--reencoded", "--shift"]),
        Step(["ensemble-submit", *of]),
        Step(["export-onnx", *of]),
        Step(["export-onnx", *of], ["export-onnx", *of], "os.rename exports/tiny/bundle.json"),
        Step(["predict-onnx", *of, *cpu]),
        Step(output),
        Step(output, output, "os.rename out/scores.csv"),
        Step(["predict-onnx", *of, *cpu, "--selftest"]),
        Step(["serve", *of, *cpu, "--port", "0"]),
        Step(["submit", *of, "--competition", "faces"]),
        Step(["submit", *of, "--competition", "other", "--dry-run"]),
        Step(["report", *of]),
        Step(["kaggle-bundle", *of]),
        Step(["leaderboard"]),
        Step(["verify"]),
        Step(["train-folds", *of, *data, "--profile"]),
    ]


class Plant(NamedTuple):
    """A link in place of a path.

    Attributes:
        path: relative to the workspace; {pid} is the pid of the command.
        kind: 'like' leads to a copy of the original, or to a file or folder of the same kind; 'nowhere' is a broken
            link.
        folder: the command has a folder there.
    """

    path: str
    kind: str
    folder: bool

    def put(self, root: Path) -> None:
        """Creates the link; its target is next to the workspace."""
        path, foreign = root / self.path.format(pid=os.getpid()), foreign_of(root)
        aim = foreign / ("folder" if self.folder else "file")
        if self.kind == "like" and self.folder:
            if path.is_dir():
                shutil.copytree(path, aim)
            for name in FOREIGN:
                if not (aim / name).exists() and not (aim / name).parent.is_file():
                    (aim / name).parent.mkdir(parents=True, exist_ok=True)
                    (aim / name).write_text("mine")
        elif self.kind == "like":
            aim.write_bytes(path.read_bytes() if path.is_file() else b"mine")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(aim)
        (foreign / BEFORE).write_text(json.dumps(seen(foreign)))


def foreign_of(root: Path) -> Path:
    """The folder of the foreign files."""
    return root.with_name(f"{root.name}.foreign")


def seen(foreign: Path) -> dict[str, list[int | str]]:
    """Of each path below a folder its mode, the time of its last change, and the hash of a file."""
    found = {}
    for path in sorted(foreign.rglob("*")):
        if path.name != BEFORE:
            status = path.lstat()
            digest = manifests.hash_file(path) if path.is_file() else ""
            found[path.relative_to(foreign).as_posix()] = [status.st_mode, status.st_mtime_ns, digest]
    return found


def changes(foreign: Path) -> list[str]:
    """Paths that are not as they were when a link to them was planted."""
    before, after = json.loads((foreign / BEFORE).read_text()), seen(foreign)
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def prepare(root: Path, plant: Plant | None = None) -> None:
    """Installs fakes and creates a link, in the process of a command."""
    stand_in(root.parent, setattr)
    if plant is not None:
        plant.put(root)


def stand_in(folder: Path, put: Callable[[object, str, object], None]) -> None:
    """Replaces slow calls by fakes: of Kaggle, of a browser, of the build of a wheel."""
    from ffdi.inference import server
    from ffdi.submission import kaggle as command
    from ffdi.submission import kaggle_bundle

    kaggle = folder / "kaggle"
    kaggle.write_text(STAND_IN)
    kaggle.chmod(0o755)
    put(command, "find_program", lambda: str(kaggle))
    put(server, "serve", lambda _judge, _limits, found: found.close())
    put(kaggle_bundle, "build_wheel", _built)


def _built(_: Path, into: Path) -> Path:
    (into / "ffdi-0-py3-none-any.whl").write_bytes(b"")
    return into / "ffdi-0-py3-none-any.whl"


def words(called: Sequence[str], root: Path) -> list[str]:
    """What is called on a workspace."""
    return [word.format(root=root) for word in called]


class Grown(NamedTuple):
    """A step with its workspace before, and the paths that it uses.

    Attributes:
        before: a workspace.
        paths: relative to it; True where there is a folder.
    """

    step: Step
    before: Path
    paths: dict[str, bool]

    def plants(self) -> list[Plant]:
        """Everything that can be planted."""
        kinds = ("like", "nowhere")
        return [Plant(path, kind, folder) for path, folder in self.paths.items() for kind in kinds]


def grow(scratch: Path, chain: Sequence[Step]) -> Iterator[Grown]:
    """Runs a chain of commands without links, in workspaces below `scratch`."""
    root = scratch / "root"
    (root / "experiments" / "tiny").mkdir(parents=True)
    (root / "out").mkdir()
    (root / "experiments" / "tiny" / "config.toml").write_text(CONFIG)
    for number, step in enumerate(chain):
        before = scratch / f"before{number}"
        if step.killed:
            whole = scratch / "whole"
            shutil.copytree(root, whole)
            calls = faults.run(words(step.killed, whole), whole, before=prepare).calls
            at = next(number for number, call in enumerate(calls, 1) if step.call in call)
            ended = faults.run(words(step.killed, root), root, Fault("SIGKILL", at), before=prepare)
            assert ended.code == -9, ended.output
            shutil.rmtree(whole)
        shutil.copytree(root, before)
        ended = faults.run(words(step.words, root), root, before=prepare)
        assert ended.code == 0, ended.output
        touched = {call.partition(" ")[2] for call in ended.calls} | _differing(before, root)
        touched |= LIBRARIES if step.words[0] in LOOKING else set()
        yield Grown(step, before, _paths(touched, before, root))


def _differing(before: Path, after: Path) -> set[str]:
    """What is new in a workspace, has gone or has changed, whoever has written it."""

    def states(root: Path) -> set[tuple[str, int]]:
        paths = (path for path in root.rglob("*") if not path.is_dir())
        return {(path.relative_to(root).as_posix(), path.stat().st_mtime_ns) for path in paths}

    return {name for name, _ in states(before) ^ states(after)}


def _paths(touched: Iterable[str], before: Path, after: Path) -> dict[str, bool]:
    """The predictable paths below the roots, with their folders."""
    found: dict[str, bool] = {}
    for name in touched:
        parts = [TEMPORARY.sub(r".\1.{pid}.tmp", part) for part in Path(name).parts]
        if len(parts) < 2 or parts[0] not in ROOTS or any(RANDOM.fullmatch(part) for part in parts):
            continue
        if written := TEMPORARY.fullmatch(Path(name).name):
            found.setdefault("/".join([*parts[:-1], written[1]]), False)
        for length in range(2, len(parts) + 1):
            path = "/".join(parts[:length])
            found[path] = found.get(path, False) or length < len(parts)
    return {
        path: folder or (before / path).is_dir() or (after / path).is_dir() for path, folder in sorted(found.items())
    }


def harm(grown: Grown, plant: Plant, root: Path) -> tuple[Ended, list[str]]:
    """Runs a command on a copy of a workspace with a link in it; returns its end and the changed foreign files."""
    shutil.copytree(grown.before, root)
    foreign = foreign_of(root)
    foreign.mkdir()
    ended = faults.run(words(grown.step.words, root), root, before=_Preparing(plant))
    changed = changes(foreign)
    for path in (root, foreign):
        shutil.rmtree(path)
    for ending in ("output", "calls"):
        root.with_name(f"{root.name}.{ending}").unlink()
    return ended, changed


class _Preparing(NamedTuple):
    plant: Plant

    def __call__(self, root: Path) -> None:
        prepare(root, self.plant)


def fault(ended: Ended, changed: Sequence[str]) -> str:
    """The fault in a command's treatment of a link; empty for none."""
    if changed:
        return f"changed: {', '.join(changed)}"
    if ended.code == 0 and "Traceback" not in ended.output:
        return ""
    explained = "error: " in ended.output and "next: " in ended.output and "Traceback" not in ended.output
    return "" if ended.code == 1 and explained else f"ends with {ended.code}: {ended.output}"
