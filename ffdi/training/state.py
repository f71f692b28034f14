"""A training between two steps: everything that the next one depends on, and nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from timm.utils import ModelEmaV3

from ffdi.config.schema import TrainConfig
from ffdi.models.detector import Detector
from ffdi.training import optim
from ffdi.training.runtime.device import Device

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch came to; `val` is the held-out fold, scored with the averaged weights where there are any."""

    epoch: int
    lr: float
    train_loss: float
    heldout_loss: float
    heldout_accuracy: float
    heldout_auc: float
    images_per_second: float
    seconds: float


class Best(NamedTuple):
    """The weights of the epoch with the highest held-out AUC."""

    auc: float
    epoch: int
    weights: Tensors


@dataclass
class Progress:
    """An epoch so far: steps done, their losses, images seen, seconds in steps.

    Attributes:
        losses: float32, on the device; the first `step` of them are known.
    """

    step: int = 0
    losses: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    images: int = 0
    seconds: float = 0.0

    def add(self, loss: torch.Tensor, steps: int) -> None:
        """One more of so many steps is done. All losses have their place from the first one on: a tensor kept of each
        step would lie between the large blocks that steps take and free, which grew by 1 to 2 MB with each."""
        if len(self.losses) < steps:
            known, self.losses = self.losses[: self.step], loss.new_empty(steps)
            self.losses[: self.step] = known
        self.losses[self.step] = loss
        self.step += 1


@dataclass
class State:
    """What `fit` changes.

    Attributes:
        detector: on the device.
        optimizer, average, scaler: as the recipe has them.
        done: steps, of all epochs.
        epoch: which one, from 0; the number of epochs once all are done.
        progress: of this epoch.
        history: the epochs before.
        symptoms: kinds of what was wrong after the last of them.
        best: where the best epoch is to be kept.
        is_whole: whether no step is under way.
    """

    detector: Detector
    optimizer: torch.optim.Optimizer
    average: ModelEmaV3 | None
    scaler: torch.amp.GradScaler
    done: int = 0
    epoch: int = 0
    progress: Progress = field(default_factory=Progress)
    history: list[EpochRecord] = field(default_factory=list)
    symptoms: list[str] = field(default_factory=list)
    best: Best | None = None
    is_whole: bool = True

    @classmethod
    def of(cls, detector: Detector, config: TrainConfig, device: Device) -> State:
        """A training that has not begun."""
        optimizer, average = optim.optimizer(config, detector.backbone), optim.average(config, detector)
        return cls(detector, optimizer, average, device.scaler())

    @property
    def kept(self) -> Detector:
        """The network that is looked at and, at the end, kept: the averaged one where there is one."""
        return self.detector if self.average is None else self.average.module

    def tensors(self) -> Tensors:
        """All tensors by name, on the CPU."""
        parts = {"detector": self.detector.state_dict(), "optimizer": self._moments()}
        parts["progress"] = {"losses": self.progress.losses[: self.progress.step]} if self.progress.step else {}
        if self.average is not None:
            parts["average"] = self.average.module.state_dict()
        if self.best is not None:
            parts["best"] = self.best.weights
        named = ((f"{part}/{name}", value) for part, some in parts.items() for name, value in some.items())
        return {name: value.detach().cpu().contiguous() for name, value in named}

    def record(self) -> dict[str, Any]:
        """All else, as plain JSON."""
        return {
            "done": self.done,
            "epoch": self.epoch,
            "progress": {**vars(self.progress), "losses": []},  # they are among the tensors
            "history": [asdict(one) for one in self.history],
            "symptoms": self.symptoms,
            "best": None if self.best is None else {"auc": self.best.auc, "epoch": self.best.epoch},
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, tensors: Tensors, record: dict[str, Any]) -> None:
        """Becomes what `tensors` and `record` gave.

        Raises:
            RuntimeError, KeyError: they are another network's.
        """
        parts: dict[str, Tensors] = {}
        for name, value in tensors.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = value
        self.detector.load_state_dict(parts["detector"])
        if self.average is not None:
            self.average.module.load_state_dict(parts["average"])
        self._restore_moments(parts.get("optimizer", {}))
        if record["scaler"]:
            self.scaler.load_state_dict(record["scaler"])
        self.done, self.epoch, self.symptoms = record["done"], record["epoch"], record["symptoms"]
        self.history = [EpochRecord(**one) for one in record["history"]]
        where = next(self.detector.parameters()).device
        losses = parts.get("progress", {}).get("losses", torch.empty(0)).to(where)
        self.progress = Progress(**{**record["progress"], "losses": losses})
        self.best = None if record["best"] is None else Best(**record["best"], weights=parts["best"])

    def _parameters(self) -> list[torch.Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _moments(self) -> Tensors:
        """What the optimiser remembers of each parameter."""
        remembered = ((number, self.optimizer.state[one]) for number, one in enumerate(self._parameters()))
        return {f"{number}/{key}": value for number, some in remembered for key, value in some.items()}

    def _restore_moments(self, moments: Tensors) -> None:
        """In the layout of the parameters: a fused step reads both in the order in which they lie in memory."""
        parameters = self._parameters()
        for name, value in moments.items():
            number, _, key = name.partition("/")
            parameter = parameters[int(number)]
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            self.optimizer.state[parameter][key] = value.to(parameter.device)
