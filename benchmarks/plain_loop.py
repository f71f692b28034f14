"""A training as notebooks have it: seeds set, and a dictionary saved with torch.save after each epoch, from which it
continues. What killed_trainings.py kills for comparison.

    python benchmarks/plain_loop.py DATA LAST.pth
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

EPOCHS = 30


def main(data: Path, last: Path) -> None:
    """Trains, from the last epoch that was saved."""
    torch.manual_seed(0)
    augment = transforms.Compose(
        [transforms.RandomHorizontalFlip(), transforms.Resize((32, 32)), transforms.ToTensor()]
    )
    loader = DataLoader(ImageFolder(data / "train", augment), batch_size=8, shuffle=True)
    model = timm.create_model("test_resnet", num_classes=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    parts: dict[str, torch.nn.Module | torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler]
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    start = 0
    if last.exists():
        saved = torch.load(last)
        start = saved["epoch"] + 1
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    for epoch in range(start, EPOCHS):
        for pixels, target in loader:
            optimizer.zero_grad()
            cross_entropy(model(pixels), target).backward()
            optimizer.step()
        scheduler.step()
        torch.save({"epoch": epoch, **{name: part.state_dict() for name, part in parts.items()}}, last)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("last", type=Path)
    asked = parser.parse_args()
    main(asked.data, asked.last)
