"""Charts of scores as SVG, in the colours of the page around them, and the plot of find-lr as PNG."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

from ffdi.core import files
from ffdi.evaluation import metrics
from ffdi.evaluation.metrics import ECE_BINS

INK, FAINT = "#010101", "#020202"
SERIES = ("#030301", "#030302", "#030303", "#030304", "#030305", "#030306", "#030307")
"""Like ink and faint they stand for colours that the page has, for light and for dark; lines beyond begin anew."""
DASHES = ("-", "--", ":", "-.")
"""Of lines of one colour, so that none is told by its colour alone."""
FINENESS = 600
"""Steps of a chart's edge that are told apart; a line's points between them are left out."""
BINS = 25
SIZE = (4.6, 3.4)
"""Inches of a chart; a page scales it."""
LETTERS = 10
PLOT_INK, ACCENT = "#333333", "#c0392b"
"""Colours of a PNG, which has no page around it."""
CORNER = 1e-4
"""False positive rate at which the enlarged corner begins."""
SPOT = 12.0
"""Points in diameter of a bin that holds all images."""
STYLE: dict[RcKeyType, Any] = {"svg.fonttype": "none", "text.parse_math": False}
"""Words stay words, also those with a dollar sign."""
TAG = re.compile("<[^>]*>")
"""Of an SVG by matplotlib, which escapes '<' and '>' wherever else they stand: what is between tags are names."""
NAMED = "="
"""Stands before a name until the legend is made: matplotlib leaves out what begins with '_'."""

Scored = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""By name: labels int [N], 1 = fake, and y_pred float [N]."""


def curves(history: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Loss and held-out AUC over the epochs; `history` has the columns of history.csv by a fold's name."""
    losses, areas = _axes(), _axes()
    for number, (name, epochs) in enumerate(history.items()):
        colour = _colour(number)
        losses.plot(epochs["epoch"], epochs["train_loss"], color=colour, linestyle=":", linewidth=1.2)
        losses.plot(epochs["epoch"], epochs["heldout_loss"], color=colour, label=f"{NAMED}{name}")
        areas.plot(epochs["epoch"], epochs["heldout_auc"], color=colour, label=f"{NAMED}{name}")
    losses.set(xlabel="epoch", ylabel="loss (dotted: training)")
    areas.set(xlabel="epoch", ylabel="held-out AUC")
    folds = ", ".join(history)
    return [
        _svg(losses, f"Training and held-out loss over the epochs of {folds}"),
        _svg(areas, f"Held-out AUC over the epochs of {folds}"),
    ]


def roc(scored: Scored) -> list[str]:
    """The step ROC, whole, and its corner of few false positives on a logarithmic axis."""
    whole, corner = _axes(), _axes()
    for number, (name, (target, y_pred)) in enumerate(scored.items()):
        fpr, tpr = metrics.count_scores(target, y_pred).rates()
        _line(whole, fpr, tpr, number, name, steps=True)
        shown = fpr >= CORNER
        powers, caught = np.log10(np.append(CORNER, fpr[shown])), np.append(tpr[~shown][-1], tpr[shown])
        _line(corner, powers, caught, number, name, steps=True)
    whole.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8)
    whole.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01))
    ticks = range(round(np.log10(CORNER)), 1)
    corner.axvline(-3, color=FAINT, linewidth=0.8)
    corner.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(ticks[0], 0), ylim=(0, 1.01))
    corner.set_xticks(list(ticks), [f"1e{power}" if power else "1" for power in ticks])
    return [
        _svg(whole, f"ROC of {', '.join(scored)}"),
        _svg(corner, f"ROC of {', '.join(scored)}, false positive rate on a logarithmic axis, 1e-3 marked"),
    ]


def precision_recall(scored: Scored) -> str:
    """Precision over recall, nothing interpolated."""
    axes = _axes()
    for number, (name, (target, y_pred)) in enumerate(scored.items()):
        counts = metrics.count_scores(target, y_pred)
        caught, passed = counts.fake.cumsum(), counts.real.cumsum()
        _line(axes, caught / counts.fakes, caught / (caught + passed), number, name)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(None, 1.01))
    return _svg(axes, f"Precision over recall of {', '.join(scored)}")


def calibration(scored: Scored) -> str:
    """The share of fakes in bins of y_pred; spots are the larger the more images a bin has."""
    axes = _axes()
    for number, (name, (target, y_pred)) in enumerate(scored.items()):
        bins = metrics.calibration_bin(y_pred)
        images = np.bincount(bins, minlength=ECE_BINS)
        held = images > 0
        score, share = (np.bincount(bins, values, ECE_BINS)[held] / images[held] for values in (y_pred, target))
        axes.scatter(
            score, share, s=SPOT**2 * images[held] / len(target) + 6, color=_colour(number), label=f"{NAMED}{name}"
        )
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8)
    axes.set(xlabel="y_pred, mean of a bin", ylabel="share of fakes", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return _svg(axes, f"Calibration of {', '.join(scored)}: share of fakes over y_pred")


def histogram(name: str, target: np.ndarray, y_pred: np.ndarray) -> str:
    """How many images of each class have which y_pred."""
    axes, edges = _axes(), np.linspace(0, 1, BINS + 1).tolist()
    for label, word in enumerate(("real", "fake")):
        of_class = y_pred[target == label]
        axes.hist(of_class, edges, color=_colour(label), alpha=0.35)
        axes.hist(of_class, edges, color=_colour(label), histtype="step", linewidth=1.5, label=word)
    axes.set(title=name, xlabel="y_pred", ylabel="images", xlim=(0, 1))
    return _svg(axes, f"Images of each class by y_pred, {name}")


def _axes() -> Axes:
    with matplotlib.rc_context(STYLE):
        return Figure(figsize=SIZE, layout="constrained").add_subplot()


def _colour(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, number: int, name: str, steps: bool = False) -> None:
    """A line of those of its points that can be told apart."""
    span = max(float(np.ptp(x)), 1e-9)
    places = np.rint(np.stack([x / span, y]) * FINENESS)
    kept = np.append(True, (np.diff(places) != 0).any(0)) | (np.arange(len(x)) == len(x) - 1)
    style = DASHES[number // len(SERIES) % len(DASHES)]
    drawn = "steps-post" if steps else "default"
    axes.plot(x[kept], y[kept], color=_colour(number), linestyle=style, drawstyle=drawn, label=f"{NAMED}{name}")


def _svg(axes: Axes, label: str) -> str:
    """An <svg> that takes the width that it is given; the same bytes for the same chart."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(color=FAINT, labelcolor=INK, labelsize=LETTERS)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set(color=INK, fontsize=LETTERS)
    file = io.StringIO()
    assert isinstance(axes.figure, Figure)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": label}):
        if len(axes.get_legend_handles_labels()[0]) > 1:
            for text in axes.legend(frameon=False, fontsize=LETTERS, labelcolor=INK).get_texts():
                text.set_text(text.get_text().removeprefix(NAMED))
        axes.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _themed(file.getvalue(), label)


def _themed(document: str, label: str) -> str:
    drawn = document[document.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    used = {one for tag in TAG.findall(drawn) for one in re.findall(r'#(\w+)["\)]', tag)}
    drawn = TAG.sub(lambda tag: _themed_tag(tag[0], used), drawn)
    opening, _, rest = drawn.partition(">")
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    return opening.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1) + ">" + rest


def _themed_tag(tag: str, used: Set[str]) -> str:
    """A tag in the page's colours and letters, with its id if that is used."""
    names = {INK: "ink", FAINT: "faint", **{colour: f"series-{number}" for number, colour in enumerate(SERIES)}}
    for colour, name in names.items():
        tag = tag.replace(colour, f"var(--{name})")
    tag = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", tag)  # one page has many
    tag = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", tag)
    return re.sub(r"font-family: [^;\"]+;?", "", tag)


def plot_learning_rates(path: Path, lr: Sequence[float], loss: Sequence[float], chosen: float) -> None:
    """Publishes the loss over the learning rate as a PNG, with the chosen rate marked."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(lr, loss, color=PLOT_INK, linewidth=1.8)
    axes.axvline(chosen, color=ACCENT, linewidth=1.2)
    axes.annotate(f" train.lr = {chosen:g}", (chosen, max(loss)), color=ACCENT, va="top")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss (smoothed)")
    axes.spines[["top", "right"]].set_visible(False)
    with files.open_atomic(path) as beside:
        figure.savefig(beside, format="png", dpi=120)
