"""Charts of scores as SVG, in the colours of the HTML page, and the plot of find-lr as PNG."""

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

from ffdi.core import files
from ffdi.evaluation import metrics
from ffdi.evaluation.metrics import ECE_BINS

INK, FAINT = "#010101", "#020202"
SERIES = ("#030301", "#030302", "#030303", "#030304", "#030305", "#030306", "#030307")
"""Placeholders of CSS colours, which depend on the light or dark theme; further lines use the first colours again."""
DASHES = ("-", "--", ":", "-.")
"""Line styles of lines with the same colour."""
LINE_STEPS = 600
"""The resolution of a line along each axis; points closer together are left out."""
BINS = 25
SIZE = (4.6, 3.4)
"""In inches; the page scales charts."""
FONT_SIZE = 10
PLOT_INK, ACCENT = "#333333", "#c0392b"
"""Colours of the PNG."""
MIN_FPR = 1e-4
"""The smallest false positive rate of the logarithmic axis."""
MAX_SPOT = 12.0
"""The diameter, in points, of a bin with all images."""
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "text.parse_math": False}
"""Text stays text, and a dollar sign does not start a formula."""
TAG = re.compile("<[^>]*>")
"""A tag of an SVG; matplotlib escapes '<' and '>' in text."""
LABEL_PREFIX = "="
"""A temporary prefix of names: matplotlib's legend omits labels that start with '_'."""

Scored = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Labels int [N], 1 = fake, and y_pred float [N], by name."""


def draw_curves(history: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Loss and held-out AUC over the epochs, from the columns of history.csv of each fold."""
    losses, aucs = _make_axes(), _make_axes()
    for number, (name, epochs) in enumerate(history.items()):
        colour = _pick_colour(number)
        losses.plot(epochs["epoch"], epochs["train_loss"], color=colour, linestyle=":", linewidth=1.2)
        losses.plot(epochs["epoch"], epochs["heldout_loss"], color=colour, label=f"{LABEL_PREFIX}{name}")
        aucs.plot(epochs["epoch"], epochs["heldout_auc"], color=colour, label=f"{LABEL_PREFIX}{name}")
    losses.set(xlabel="epoch", ylabel="loss (dotted: training)")
    aucs.set(xlabel="epoch", ylabel="held-out AUC")
    folds = ", ".join(history)
    return [
        _render_svg(losses, f"Training and held-out loss over the epochs of {folds}"),
        _render_svg(aucs, f"Held-out AUC over the epochs of {folds}"),
    ]


def draw_roc(scored: Scored) -> list[str]:
    """The step ROC, and its part with few false positives on a logarithmic axis."""
    whole, corner = _make_axes(), _make_axes()
    for number, (name, (target, y_pred)) in enumerate(scored.items()):
        fpr, tpr = metrics.count_scores(target, y_pred).compute_rates()
        _draw_line(whole, fpr, tpr, number, name, steps=True)
        shown = fpr >= MIN_FPR
        powers, caught = np.log10(np.append(MIN_FPR, fpr[shown])), np.append(tpr[~shown][-1], tpr[shown])
        _draw_line(corner, powers, caught, number, name, steps=True)
    whole.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8)
    whole.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01))
    ticks = range(round(np.log10(MIN_FPR)), 1)
    corner.axvline(-3, color=FAINT, linewidth=0.8)
    corner.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(ticks[0], 0), ylim=(0, 1.01))
    corner.set_xticks(list(ticks), [f"1e{power}" if power else "1" for power in ticks])
    return [
        _render_svg(whole, f"ROC of {', '.join(scored)}"),
        _render_svg(corner, f"ROC of {', '.join(scored)}, false positive rate on a logarithmic axis, 1e-3 marked"),
    ]


def draw_precision_recall(scored: Scored) -> str:
    """Precision over recall, without interpolation."""
    axes = _make_axes()
    for number, (name, (target, y_pred)) in enumerate(scored.items()):
        counts = metrics.count_scores(target, y_pred)
        caught, passed = counts.fake.cumsum(), counts.real.cumsum()
        _draw_line(axes, caught / counts.fakes, caught / (caught + passed), number, name)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(None, 1.01))
    return _render_svg(axes, f"Precision over recall of {', '.join(scored)}")


def draw_calibration(scored: Scored) -> str:
    """The fraction of fakes in bins of y_pred; the area of a spot shows the number of images."""
    axes = _make_axes()
    for number, (name, (target, y_pred)) in enumerate(scored.items()):
        bins = metrics.assign_calibration_bins(y_pred)
        images = np.bincount(bins, minlength=ECE_BINS)
        filled = images > 0
        score, fakes = (np.bincount(bins, values, ECE_BINS)[filled] / images[filled] for values in (y_pred, target))
        axes.scatter(
            score,
            fakes,
            s=MAX_SPOT**2 * images[filled] / len(target) + 6,
            color=_pick_colour(number),
            label=f"{LABEL_PREFIX}{name}",
        )
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8)
    axes.set(xlabel="y_pred, mean of a bin", ylabel="fraction of fakes", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return _render_svg(axes, f"Calibration of {', '.join(scored)}: fraction of fakes over y_pred")


def draw_histogram(name: str, target: np.ndarray, y_pred: np.ndarray) -> str:
    """The number of images of each class by y_pred."""
    axes, edges = _make_axes(), np.linspace(0, 1, BINS + 1).tolist()
    for label, word in enumerate(("real", "fake")):
        of_class = y_pred[target == label]
        axes.hist(of_class, edges, color=_pick_colour(label), alpha=0.35)
        axes.hist(of_class, edges, color=_pick_colour(label), histtype="step", linewidth=1.5, label=word)
    axes.set(title=name, xlabel="y_pred", ylabel="images", xlim=(0, 1))
    return _render_svg(axes, f"Images of each class by y_pred, {name}")


def _make_axes() -> Axes:
    with matplotlib.rc_context(STYLE):
        return Figure(figsize=SIZE, layout="constrained").add_subplot()


def _pick_colour(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _draw_line(axes: Axes, x: np.ndarray, y: np.ndarray, number: int, name: str, steps: bool = False) -> None:
    """Draws a line without the points that are too close to be visible."""
    span = max(float(np.ptp(x)), 1e-9)
    positions = np.rint(np.stack([x / span, y]) * LINE_STEPS)
    visible = np.append(True, (np.diff(positions) != 0).any(0)) | (np.arange(len(x)) == len(x) - 1)
    style = DASHES[number // len(SERIES) % len(DASHES)]
    drawstyle = "steps-post" if steps else "default"
    axes.plot(
        x[visible],
        y[visible],
        color=_pick_colour(number),
        linestyle=style,
        drawstyle=drawstyle,
        label=f"{LABEL_PREFIX}{name}",
    )


def _render_svg(axes: Axes, label: str) -> str:
    """An <svg> element of variable width; the same chart has the same bytes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(color=FAINT, labelcolor=INK, labelsize=FONT_SIZE)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set(color=INK, fontsize=FONT_SIZE)
    file = io.StringIO()
    assert isinstance(axes.figure, Figure)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": label}):
        if len(axes.get_legend_handles_labels()[0]) > 1:
            for text in axes.legend(frameon=False, fontsize=FONT_SIZE, labelcolor=INK).get_texts():
                text.set_text(text.get_text().removeprefix(LABEL_PREFIX))
        axes.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _apply_theme(file.getvalue(), label)


def _apply_theme(document: str, label: str) -> str:
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = {one for tag in TAG.findall(svg) for one in re.findall(r'#(\w+)["\)]', tag)}
    svg = TAG.sub(lambda tag: _apply_theme_to_tag(tag[0], used), svg)
    opening, _, rest = svg.partition(">")
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    return opening.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1) + ">" + rest


def _apply_theme_to_tag(tag: str, used: Set[str]) -> str:
    """A tag with the colours and the font of the page; removes an id that is not used."""
    names = {INK: "ink", FAINT: "faint", **{colour: f"series-{number}" for number, colour in enumerate(SERIES)}}
    for colour, name in names.items():
        tag = tag.replace(colour, f"var(--{name})")
    tag = re.sub(
        r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", tag
    )  # ids must be unique in the page
    tag = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", tag)
    return re.sub(r"font-family: [^;\"]+;?", "", tag)


def plot_learning_rates(path: Path, lr: Sequence[float], loss: Sequence[float], chosen: float) -> None:
    """Writes a PNG of the loss over the learning rate, with the chosen rate marked."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(lr, loss, color=PLOT_INK, linewidth=1.8)
    axes.axvline(chosen, color=ACCENT, linewidth=1.2)
    axes.annotate(f" train.lr = {chosen:g}", (chosen, max(loss)), color=ACCENT, va="top")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss (smoothed)")
    axes.spines[["top", "right"]].set_visible(False)
    with files.open_atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
