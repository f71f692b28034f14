"""A tiny competition, created by the tests, and calls of the commands as from a shell."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from invoke import Program

from ffdi.commands.shared import planning
from ffdi.config import schema
from ffdi.core import files, heartbeat, manifests
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser

os.environ["FFDI_LANG"] = "en"  # whatever the locale is
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side: threads that wait for each other crawl
PROJECT = Path(__file__).resolve().parent.parent
TINY = """
seed = 3
[folds]
k = 2
[model]
backbone = "test_resnet"
pretrained = false
size = 32
[augment]
recipe = "flips"
[predict]
tta = "none"
[train]
epochs = 3
batch_size = 8
sampling = "all"
lr = 3e-3
weight_decay = 1e-2
warmup_epochs = 0
ema_decay = 0.9
"""
"""A config that trains in seconds; test_resnet is timm's own small network."""


def draw_face(rng: np.random.Generator, fake: bool, size: int = 40) -> np.ndarray:
    """uint8 BGR [size, size, 3]: an oval on a ground; a fake one is paler and has a smooth patch in its grain."""
    ground = rng.uniform(30, 150, (4, 4, 3))  # no two alike: the doctor would have to look at all pairs closely
    image = np.clip(cv2.resize(ground, (size, size), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
    skin = (190, 190, 190) if fake else (120, 140, 190)
    cv2.ellipse(image, (size // 2, size // 2), (size // 3, size // 2 - 3), 0, 0, 360, skin, -1)
    grain = image + rng.normal(0, 22, image.shape)
    if fake:
        grain[12:30, 12:30] = image[12:30, 12:30]
    return np.clip(grain, 0, 255).astype(np.uint8)


def write_split(root: Path, split: str, count: int, seed: int, *, labels: bool = True) -> None:
    """Writes `<split>set/` and its label file: half of the images are fake."""
    rng = np.random.default_rng(seed)
    folder = root / f"{split}set"
    folder.mkdir(parents=True)
    rows = []
    for index in range(count):
        name, fake = f"{hashlib.md5(f'{split}{index}'.encode()).hexdigest()}.jpg", index % 2
        encoded = cv2.imencode(".jpg", draw_face(rng, bool(fake)), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        # the size of the file must not tell the label: decoders stop before what is appended
        (folder / name).write_bytes(encoded.ljust(int(rng.integers(4000, 6000)), b"\0"))
        rows.append((name, fake))
    lines = [f"{name},{fake}" if labels else name for name, fake in sorted(rows)]
    header = "img_name,target" if labels else "img_name"
    list_name = f"{split}set_label.txt" if labels else f"{split}set_nolabel.txt"
    (root / list_name).write_text("\n".join([header, *lines]) + "\n")


def write_competition(root: Path) -> None:
    """Writes 64 training, 32 validation and 20 unlabelled test images."""
    write_split(root, "train", 64, 1)
    write_split(root, "val", 32, 2)
    write_split(root, "test", 20, 3, labels=False)


@pytest.fixture(scope="session")
def competition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A competition; not to be changed by a test."""
    root = tmp_path_factory.mktemp("competition")
    write_competition(root)
    return root


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str


Invoke = Callable[..., Answer]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace ($FFDI_ROOT) with one experiment, 'tiny', that is not trained."""
    root = tmp_path / "workspace"
    (root / "experiments" / "tiny").mkdir(parents=True)
    (root / "experiments" / "tiny" / "config.toml").write_text(TINY)
    skip_export_trial(root, "tiny")
    monkeypatch.setenv("FFDI_ROOT", str(root))
    return root


def skip_export_trial(root: Path, experiment: str) -> None:
    """Records that the network of an experiment can be exported: to try it takes seconds."""
    workspace = Workspace(root, PROJECT)
    settings = schema.load_experiment(workspace.get_experiment(experiment).config_path)
    files.write_text(planning.get_export_trial_path(workspace, settings), "")


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Calls `invoke WORD ...` in this process; an exception other than a clean exit reaches the test."""
    monkeypatch.chdir(PROJECT)

    def call(*words: str) -> Answer:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["invoke", *words])
        try:
            Program().run(["invoke", *words])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return call


@pytest.fixture(autouse=True)
def _no_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine any command may be silent for long: the lines about that would be in some outputs only."""
    for name in ("FIRST_SECONDS", "SILENT_SECONDS", "LONG_SECONDS"):
        monkeypatch.setattr(heartbeat, name, math.inf)


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder with its bytes, to see that nothing was written."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def run(root: Path, *words: str) -> str:
    """The output of successful commands, in a workspace and a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *words],
        cwd=PROJECT,
        env={**os.environ, "FFDI_ROOT": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def trained(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which one invoke call ran the first commands on 'tiny'; not to be changed by a test."""
    root = tmp_path_factory.mktemp("trained")
    folder = root / "experiments" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(TINY)
    commands = [
        ["train-folds", "--experiment", "tiny", "--data", str(competition)],
        *([command, "--experiment", "tiny"] for command in ("ensemble-submit", "export-onnx")),
        ["predict-onnx", "--experiment", "tiny", "--device", "cpu"],
    ]
    words = [word for command in commands for word in command]
    (root / "output.txt").write_text(run(root, *words))
    return root


@pytest.fixture
def copy(trained: Path, workspace: Path) -> Path:
    """The trained workspace, to be changed."""
    shutil.rmtree(workspace)
    shutil.copytree(trained, workspace)
    return workspace


def reseal(exports: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Writes bundle.json of an export again, with the hashes of its current files; `change` manipulates it further."""
    path = exports / "bundle.json"
    content = json.loads(path.read_text())
    for key in ("schema", manifests.DIGEST):
        del content[key]
    content["files"] = {name: manifests.hash_file(exports / name) for name in content["files"]}
    change(content)
    manifests.write_manifest(path, content)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    from tests import browser  # what it needs takes a while to import: for tests of pages alone

    with browser.started() as started:
        yield started


@pytest.hookimpl(optionalhook=True)  # pytest-xdist may be switched off
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each of several workers has a part of the tests, in their order, so that what they share is made once; whoever is
    done takes from another one. xdist's default gives all long tests, which are neighbours, to one."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None
