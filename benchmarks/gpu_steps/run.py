"""What the steps share: their sizes, the device, the drawn images, and the facts that they send."""

from __future__ import annotations

import importlib
import math
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffdi.core.errors import FFDIError, get_first_line
from gpu_steps.processes import Send

if TYPE_CHECKING:
    from ffdi.config.schema import Config
    from ffdi.data.labels.table import Table
    from ffdi.training.runtime.device import Device

PROJECT = Path(__file__).resolve().parent.parent.parent
MODULES = {
    "env": "environment",
    "bits": "training",
    "sync": "training",
    "oom": "memory",
    "ranks": "training",
    "train": "speed",
    "loader": "speed",
    "export": "scoring",
    "infer": "scoring",
}
"""The steps in their order, and the module of each."""
Fact = dict[str, Any]
"""step, figure, value; `ok` where the figure is a check; a note, a range, a place."""


@dataclass(frozen=True)
class Scale:
    """The sizes of a run.

    Attributes:
        backbones: of `bits`, at `bits_size` px.
        backbone: of all other steps, at `size` px.
        batch_size: of the steps that measure speed.
        small_batch: of the steps that compare weights: 40 of them must fit into the images.
        images: that are drawn, JPEGs of `edge` px.
        rounds, seconds: turns of each contestant, and the length of each.
        workers: of `loader`.
        folds: networks in the exported graph.
        scored: images of which torch and ONNX Runtime give the same scores.
    """

    backbones: tuple[str, ...]
    bits_size: int
    backbone: str
    size: int
    batch_size: int
    small_batch: int
    images: int
    edge: int
    rounds: int
    seconds: float
    workers: tuple[int, ...]
    folds: int
    scored: int


FULL = Scale(
    backbones=("resnet18", "tf_efficientnet_b0", "convnext_tiny", "vit_small_patch16_224"),
    bits_size=224,
    backbone="resnet18",
    size=320,
    batch_size=64,
    small_batch=16,
    images=1000,
    edge=512,
    rounds=5,
    seconds=4,
    workers=(0, 2, 4, 8, 16),
    folds=5,
    scored=1000,
)
TOY = Scale(
    backbones=("test_resnet", "test_efficientnet", "test_convnext", "test_vit"),
    bits_size=32,
    backbone="test_resnet",
    size=32,
    batch_size=8,
    small_batch=4,
    images=100,
    edge=64,
    rounds=3,
    seconds=0.1,
    workers=(0, 2),
    folds=2,
    scored=100,
)


@dataclass(frozen=True)
class Run:
    """One step of a run.

    Attributes:
        step: a key of MODULES.
        cpu: a rehearsal at toy size.
        root: a folder for drawn images and other files, which all steps share.
        send: takes a fact.
    """

    step: str
    cpu: bool
    root: Path
    send: Send

    @property
    def scale(self) -> Scale:
        return TOY if self.cpu else FULL

    @cached_property
    def device(self) -> Device:
        """The device, in the precision that ffdi chooses for it.

        Raises:
            DeviceError: there is no CUDA device that torch can use.
        """
        from ffdi.training.runtime.device import choose_device

        return choose_device("cpu" if self.cpu else "cuda", "auto", None)

    def record(self, figure: str, value: object, *, ok: bool | None = None, **more: object) -> None:
        """Sends a fact; `ok` is False for a check that has failed, and None for what is no check."""
        if isinstance(value, float) and not math.isfinite(value):
            value = str(value)  # JSON has no such number
        check = {} if ok is None else {"ok": ok}
        self.send({"step": self.step, "figure": figure, "value": value, **check, **more})

    @contextmanager
    def attempt(self, figure: str) -> Iterator[None]:
        """Turns an error of its block into a failed fact: the checks that follow still run."""
        try:
            yield
        except ModuleNotFoundError as error:
            self.record(figure, f"the package {error.name} is missing", ok=False)
        except FFDIError as error:
            self.record(figure, "; ".join(line.strip() for line in str(error).splitlines()), ok=False)
        except Exception as error:  # whatever torch, a driver or a library raises is a finding
            traceback.print_exc()
            what = f"{type(error).__name__}: {get_first_line(error)}"
            self.record(figure, what, ok=False, place=find_place(error))

    @cached_property
    def table(self) -> Table:
        """The drawn images with labels; every other one counts as fake. They are drawn once for all steps."""
        import trained

        from ffdi.config.schema import Config
        from ffdi.data.labels import layout

        if not (ready := self.root / "drawn").exists():
            beside = self.root / "drawing"
            shutil.rmtree(beside, ignore_errors=True)  # of a step that was stopped
            trained.draw_all(beside, self.scale.images, self.scale.edge)
            beside.rename(ready)
        return layout.find_dataset(ready / "data", Config().data).split("train")

    def build_config(self, backbone: str | None = None, size: int | None = None, **sections: Any) -> Config:
        """An experiment's config: that of the scale, without pretrained weights, and then the given sections."""
        from ffdi.config.schema import Config

        model = {"backbone": backbone or self.scale.backbone, "pretrained": False, "size": size or self.scale.size}
        return Config.model_validate({"model": model, **sections})


def run_step(send: Send, step: str, cpu: bool, root: Path) -> None:
    """Runs a step in this process. An error is a failed fact too."""
    run = Run(step, cpu, root, send)
    with run.attempt("the step"):
        module = importlib.import_module(f"gpu_steps.{MODULES[step]}")
        if step != "env":
            run.record("device", run.device.name, note=run.device.why)
        getattr(module, step)(run)


def find_place(error: BaseException) -> str:
    """The line of this project that an error comes from, 'ffdi/training/loop.py:180 (train_step)'."""
    folders = (PROJECT / "ffdi", PROJECT / "benchmarks")
    frames = traceback.extract_tb(error.__traceback__)
    frame = [frame for frame in frames if any(Path(frame.filename).is_relative_to(one) for one in folders)][-1]
    return f"{Path(frame.filename).relative_to(PROJECT).as_posix()}:{frame.lineno} ({frame.name})"


def prepare_imports() -> None:
    """Lets processes of any start method import these modules and ffdi."""
    paths = [str(PROJECT / "benchmarks"), str(PROJECT)]
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *([before] if before else [])])
    sys.path[:0] = paths
