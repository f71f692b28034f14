"""The loop of the notebook that people start from, to the letter: timm, two classes, 256 px, both flips, Adam 3e-3,
batches of 40, four loader workers, cross entropy, fp32, ImageNet's mean and deviation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from ffdi.data.labels.table import Table

EPOCHS, BATCH, RATE, SIZE, WORKERS = 2, 40, 3e-3, 256, 4
NORMALISE = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FLIPS = [transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip()]


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Its data set: (pixels, label)."""

    def __init__(self, table: Table, *, train: bool) -> None:
        self.table = table
        steps = [transforms.Resize((SIZE, SIZE)), *(FLIPS if train else []), transforms.ToTensor(), NORMALISE]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        image = Image.open(self.table.path(row)).convert("RGB")
        return self.transform(image), 0 if self.table.target is None else int(self.table.target[row])


def build(backbone: str, weights: Path | None) -> nn.Module:
    """Its network, with the weights of a local file in place of the hub's."""
    overlay: dict[str, Any] = {} if weights is None else {"pretrained_cfg_overlay": {"file": str(weights)}}
    return timm.create_model(backbone, pretrained=weights is not None, num_classes=2, **overlay)


def train(network: nn.Module, table: Table, seed: int) -> float:
    """Two epochs; the seconds they took, without the looks at a validation split."""
    torch.manual_seed(seed)
    loader = DataLoader(Images(table, train=True), BATCH, shuffle=True, num_workers=WORKERS, pin_memory=True)
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(network.parameters(), RATE)
    started = time.perf_counter()
    for _ in range(EPOCHS):
        network.train()
        for images, target in loader:
            loss = criterion(network(images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return time.perf_counter() - started


def score(network: nn.Module, table: Table) -> np.ndarray:
    """The probability of a fake, float [N]."""
    network.eval()
    loader = DataLoader(Images(table, train=False), BATCH)
    with torch.inference_mode():
        return torch.cat([network(images).softmax(1)[:, 1] for images, _ in loader]).numpy()
