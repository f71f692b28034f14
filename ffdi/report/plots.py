"""Pictures: the only room that knows matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")  # before pyplot: a picture needs no window

from matplotlib import pyplot

from ffdi.core import files

INK, ACCENT = "#333333", "#c0392b"


def learning_rates(path: Path, lr: Sequence[float], loss: Sequence[float], chosen: float) -> None:
    """Publishes the loss over the learning rate as a PNG, with the chosen rate marked."""
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(lr, loss, color=INK, linewidth=1.8)
    axes.axvline(chosen, color=ACCENT, linewidth=1.2)
    axes.annotate(f" train.lr = {chosen:g}", (chosen, max(loss)), color=ACCENT, va="top")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss (smoothed)")
    axes.spines[["top", "right"]].set_visible(False)
    with files.writing(path) as beside:
        figure.savefig(beside, format="png", dpi=120)
    pyplot.close(figure)
