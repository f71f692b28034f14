"""The state of a training between two steps: all that the next step depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from timm.utils import ModelEmaV3

from ffdi.config.schema import TrainConfig
from ffdi.models import tuning
from ffdi.models.detector import Detector
from ffdi.training import optim
from ffdi.training.runtime.device import Device

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class EpochRecord:
    """The metrics of an epoch; `heldout_*` are those of the held-out fold, scored by the EMA weights if there are any,
    and None where the training holds no image out.

    Attributes:
        epoch: from 0.
        waiting: the share of the training's seconds in which the device waited for images; NaN if an older version
            trained this epoch. Without loader workers, the time in which this process makes the images.
    """

    epoch: int
    lr: float
    train_loss: float
    heldout_loss: float | None
    heldout_accuracy: float | None
    heldout_auc: float | None
    images_per_second: float
    seconds: float
    waiting: float = float("nan")


class BestWeights(NamedTuple):
    """The weights of the epoch with the highest held-out AUC."""

    auc: float
    epoch: int
    weights: Tensors


@dataclass
class EpochProgress:
    """The steps of the current epoch.

    Attributes:
        step: the number of completed steps.
        losses: float32, on the device; one per step of the epoch, of which the first `step` are set.
        images: that these steps used.
        seconds: that these steps took.
        waiting: seconds of these in which the device waited for images, up to the last check of the losses.
    """

    step: int = 0
    losses: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    images: int = 0
    seconds: float = 0.0
    waiting: float = 0.0

    def add(self, loss: torch.Tensor, steps: int) -> None:
        """Adds a completed step of an epoch with `steps` steps.

        The tensor has all its elements from the first step on: a small tensor per step would be allocated between the
        large blocks that steps allocate and free, and the process would grow by 1 to 2 MB per step.
        """
        if len(self.losses) < steps:
            known, self.losses = self.losses[: self.step], loss.new_empty(steps)
            self.losses[: self.step] = known
        self.losses[self.step] = loss
        self.step += 1


@dataclass
class TrainingState:
    """The model, its optimizer, and the progress of the training; `fit` changes it in place.

    Attributes:
        detector: the model that the optimizer changes, on the device.
        ema: the moving average of its weights; None without `train.ema_decay`.
        global_step: the number of completed steps, over all epochs.
        epoch: the current epoch, from 0; the number of epochs at the end.
        history: a record for each completed epoch.
        symptoms: of the last completed epoch: keys of `HealthWarning.symptoms`.
        best: None unless `train.select` is 'best'.
        between_steps: False while a step changes the state, when no checkpoint may be written.
    """

    detector: Detector
    optimizer: torch.optim.Optimizer
    ema: ModelEmaV3 | None
    scaler: torch.amp.GradScaler
    global_step: int = 0
    epoch: int = 0
    progress: EpochProgress = field(default_factory=EpochProgress)
    history: list[EpochRecord] = field(default_factory=list)
    symptoms: list[str] = field(default_factory=list)
    best: BestWeights | None = None
    between_steps: bool = True

    @classmethod
    def create(cls, detector: Detector, config: TrainConfig, device: Device) -> TrainingState:
        """The state before the first step."""
        optimizer, ema = optim.create_optimizer(config, detector.backbone), optim.create_ema(config, detector)
        return cls(detector, optimizer, ema, device.make_scaler())

    @property
    def eval_model(self) -> Detector:
        """The model that is evaluated and published: the EMA model if there is one."""
        return self.detector if self.ema is None else self.ema.module

    def state_dict(self) -> Tensors:
        """All tensors by name, on the CPU."""
        parts = {"model": tuning.get_trained(self.detector), "optimizer": self._get_optimizer_tensors()}
        parts["progress"] = {"losses": self.progress.losses[: self.progress.step]} if self.progress.step else {}
        if self.ema is not None:
            parts["ema"] = tuning.get_trained(self.ema.module)
        if self.best is not None:
            parts["best"] = self.best.weights
        named = ((f"{part}/{name}", value) for part, tensors in parts.items() for name, value in tensors.items())
        return {name: value.detach().cpu().contiguous() for name, value in named}

    def metadata(self) -> dict[str, Any]:
        """All values that are no tensors, as plain JSON."""
        return {
            "global_step": self.global_step,
            "epoch": self.epoch,
            "progress": {**vars(self.progress), "losses": []},  # `state_dict` has the losses
            "history": [asdict(record) for record in self.history],
            "symptoms": self.symptoms,
            "best": None if self.best is None else {"auc": self.best.auc, "epoch": self.best.epoch},
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, tensors: Tensors, metadata: dict[str, Any]) -> None:
        """Restores the values that `state_dict` and `metadata` returned.

        Raises:
            RuntimeError, KeyError: they are of another model.
        """
        parts: dict[str, Tensors] = {}
        for name, value in tensors.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = value
        tuning.load_trained(self.detector, parts["model"])
        if self.ema is not None:
            tuning.load_trained(self.ema.module, parts["ema"])
        self._load_optimizer_tensors(parts.get("optimizer", {}))
        if metadata["scaler"]:
            self.scaler.load_state_dict(metadata["scaler"])
        self.global_step, self.epoch = metadata["global_step"], metadata["epoch"]
        self.symptoms = metadata["symptoms"]
        self.history = [EpochRecord(**record) for record in metadata["history"]]
        device = next(self.detector.parameters()).device
        losses = parts.get("progress", {}).get("losses", torch.empty(0)).to(device)
        self.progress = EpochProgress(**{**metadata["progress"], "losses": losses})
        self.best = None if metadata["best"] is None else BestWeights(**metadata["best"], weights=parts["best"])

    def _list_parameters(self) -> list[torch.Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _get_optimizer_tensors(self) -> Tensors:
        """The optimizer's state of each parameter, named by the parameter's index."""
        states = ((index, self.optimizer.state[one]) for index, one in enumerate(self._list_parameters()))
        return {f"{index}/{key}": value for index, state in states for key, value in state.items()}

    def _load_optimizer_tensors(self, tensors: Tensors) -> None:
        """Uses the parameters' memory layout: a fused step reads parameter and state in memory order."""
        parameters = self._list_parameters()
        for name, value in tensors.items():
            index, _, key = name.partition("/")
            parameter = parameters[int(index)]
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            self.optimizer.state[parameter][key] = value.to(parameter.device)
