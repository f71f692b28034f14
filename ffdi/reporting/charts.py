"""Charts of scores as SVG, in the colours of the HTML page, and the plot of find-lr as PNG."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ffdi.core import files
from ffdi.core.errors import format_count
from ffdi.core.translation import translate, translate_name
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
POINTS_PER_INCH = 72
"""Of an SVG."""
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


class Points(NamedTuple):
    """Points of a chart whose values the page shows on hover.

    Attributes:
        colour: the number of a colour of the page.
        places: x, y in the units of the SVG's view box, and the text, of each point.
    """

    colour: int
    places: list[tuple[float, float, str]]


class Chart(NamedTuple):
    """A chart with its title.

    Attributes:
        svg: an <svg> element of variable width.
        points: its values.
    """

    title: str
    svg: str
    points: list[Points]


class _Plot:
    """Axes, with the values that are shown on hover."""

    def __init__(self, x: str, y: str, **limits: tuple[float | None, float | None]) -> None:
        """Takes the labels of the axes, with their units, and the limits `xlim` and `ylim`."""
        with matplotlib.rc_context(STYLE):
            self.axes = Figure(figsize=SIZE, dpi=POINTS_PER_INCH, layout="constrained").add_subplot()
        self.axes.set(xlabel=translate(x), ylabel=translate(y), **limits)
        self._values: list[tuple[int, np.ndarray, list[str]]] = []

    def mark(self, number: int, name: str, x: np.ndarray, y: np.ndarray, texts: Iterable[str]) -> None:
        """Gives points a text on hover.

        Args:
            number: of their colour.
            name: of the line, before each text; '' for none.
            x, y: float [N], in the units of the axes.
        """
        before = f"{translate_name(name)}: " if name else ""
        shown = [f"{before}{translate(text)}" for text in texts]
        self._values.append((_wrap_colour(number), np.stack([x, y], 1), shown))

    def place_points(self) -> list[Points]:
        """The marked points, after the layout is complete."""
        height = SIZE[1] * POINTS_PER_INCH
        found = []
        for colour, values, texts in self._values:
            places = self.axes.transData.transform(values)
            rows = (
                (place, text) for place, text in zip(places.tolist(), texts, strict=True) if np.isfinite(place).all()
            )
            found.append(Points(colour, [(round(x, 1), round(height - y, 1), text) for (x, y), text in rows]))
        return found


def draw_curves(history: Mapping[str, Mapping[str, Sequence[float]]], whose: str = "") -> list[Chart]:
    """Loss and held-out AUC over the epochs, from the columns of history.csv of each fold; `whose` ends the titles."""
    losses, aucs = _Plot("epoch", "loss (dotted: training)"), _Plot("epoch", "AUC of the held-out fold")
    for number, (name, epochs) in enumerate(history.items()):
        epoch = np.array(epochs["epoch"])
        for key, plot, word, style in (
            ("train_loss", losses, "training loss", {"linestyle": ":", "linewidth": 1.2}),
            ("heldout_loss", losses, "held-out loss", {"label": f"{LABEL_PREFIX}{translate_name(name)}"}),
            ("heldout_auc", aucs, "AUC", {"label": f"{LABEL_PREFIX}{translate_name(name)}"}),
        ):
            value = np.array(epochs[key], float)
            plot.axes.plot(epoch, value, color=_pick_colour(number), **style)
            texts = (f"epoch {at:g}, {word} {one:.4f}" for at, one in zip(epoch, value, strict=True))
            plot.mark(number, name, epoch, value, texts)
    for plot in (losses, aucs):
        plot.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return [_render(losses, f"Loss over the epochs{whose}"), _render(aucs, f"Held-out AUC over the epochs{whose}")]


def draw_roc(scored: Scored) -> list[Chart]:
    """The step ROC, and its part with few false positives on a logarithmic axis."""
    axes = "false positive rate", "true positive rate"
    powers = range(round(np.log10(MIN_FPR)), 1)
    whole = _Plot(*axes, xlim=(0, 1), ylim=(0, 1.01))
    corner = _Plot(*axes, xlim=(powers[0], 0), ylim=(0, 1.01))
    for number, (name, (target, y_pred)) in enumerate(scored.items()):
        fpr, tpr = metrics.count_scores(target, y_pred).compute_rates()
        _draw_line(whole, fpr, tpr, number, name, "FPR {:.4f}, TPR {:.4f}", steps=True)
        shown = fpr >= MIN_FPR
        fpr, tpr = np.append(MIN_FPR, fpr[shown]), np.append(tpr[~shown][-1], tpr[shown])
        _draw_line(corner, fpr, tpr, number, name, "FPR {:.2g}, TPR {:.4f}", steps=True, place=np.log10)
    whole.axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8)
    corner.axes.axvline(-3, color=FAINT, linewidth=0.8)
    corner.axes.set_xticks(list(powers), [f"1e{power}" if power else "1" for power in powers])
    return [_render(whole, "ROC"), _render(corner, "ROC with few false positives, 1e-3 marked")]


def draw_precision_recall(scored: Scored) -> Chart:
    """Precision over recall, without interpolation."""
    plot = _Plot("recall", "precision", xlim=(0, 1), ylim=(None, 1.01))
    for number, (name, (target, y_pred)) in enumerate(scored.items()):
        counts = metrics.count_scores(target, y_pred)
        caught, passed = counts.fake.cumsum(), counts.real.cumsum()
        recall, precision = caught / counts.fakes, caught / (caught + passed)
        _draw_line(plot, recall, precision, number, name, "recall {:.4f}, precision {:.4f}")
    return _render(plot, "Precision over recall")


def draw_calibration(scored: Scored) -> Chart:
    """The fraction of fakes in bins of y_pred; the area of a spot shows the number of images."""
    plot = _Plot("y_pred, mean of a bin", "fraction of fakes", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    for number, (name, (target, y_pred)) in enumerate(scored.items()):
        bins = metrics.assign_calibration_bins(y_pred)
        images = np.bincount(bins, minlength=ECE_BINS)
        filled = images > 0
        score, fakes = (np.bincount(bins, values, ECE_BINS)[filled] / images[filled] for values in (y_pred, target))
        plot.axes.scatter(
            score,
            fakes,
            s=MAX_SPOT**2 * images[filled] / len(target) + 6,
            color=_pick_colour(number),
            label=f"{LABEL_PREFIX}{translate_name(name)}",
        )
        rows = zip(score, fakes, images[filled], strict=True)
        texts = (f"mean y_pred {at:.3f}, {part:.3f} are fake, {format_count(int(n), 'image')}" for at, part, n in rows)
        plot.mark(number, name, score, fakes, texts)
    plot.axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8)
    return _render(plot, "Calibration: the area of a spot is its number of images")


def draw_histogram(name: str, target: np.ndarray, y_pred: np.ndarray) -> Chart:
    """The number of images of each class by y_pred."""
    plot, edges = _Plot("y_pred", "images", xlim=(0, 1)), np.linspace(0, 1, BINS + 1)
    for label, word in enumerate(("real", "fake")):
        counts, _ = np.histogram(y_pred[target == label], edges)
        plot.axes.stairs(counts, edges, color=_pick_colour(label), alpha=0.35, fill=True)
        plot.axes.stairs(counts, edges, color=_pick_colour(label), linewidth=1.5, label=translate(word))
        ends = zip(edges, edges[1:], counts.tolist(), strict=False)
        texts = (f"y_pred {low:.2f} to {high:.2f}, {format_count(images, 'image')}" for low, high, images in ends)
        plot.mark(label, translate(word), (edges[:-1] + edges[1:]) / 2, counts, texts)
    return _render(plot, f"Scores: {name}")


def _wrap_colour(number: int) -> int:
    return number % len(SERIES)


def _pick_colour(number: int) -> str:
    return SERIES[_wrap_colour(number)]


def _draw_line(
    plot: _Plot,
    x: np.ndarray,
    y: np.ndarray,
    number: int,
    name: str,
    text: str,
    *,
    steps: bool = False,
    place: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> None:
    """Draws a line without the points that are too close to be visible.

    Args:
        x, y: float [N].
        number: of the line.
        text: of a point on hover, with places for its x and y.
        steps: whether the line is flat between points.
        place: from x to the position on the axis.
    """
    at = place(x)
    span = max(float(np.ptp(at)), 1e-9)
    positions = np.rint(np.stack([at / span, y]) * LINE_STEPS)
    visible = np.append(True, (np.diff(positions) != 0).any(0)) | (np.arange(len(x)) == len(x) - 1)
    x, at, y = x[visible], at[visible], y[visible]
    plot.axes.plot(
        at,
        y,
        color=_pick_colour(number),
        linestyle=DASHES[number // len(SERIES) % len(DASHES)],
        drawstyle="steps-post" if steps else "default",
        label=f"{LABEL_PREFIX}{translate_name(name)}",
    )
    plot.mark(number, name, at, y, (text.format(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True)))


def _render(plot: _Plot, title: str) -> Chart:
    """The chart; the same values have the same bytes."""
    axes = plot.axes
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(color=FAINT, labelcolor=INK, labelsize=FONT_SIZE)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set(color=INK, fontsize=FONT_SIZE)
    file = io.StringIO()
    assert isinstance(axes.figure, Figure)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": title}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the page's fonts draw the text, not matplotlib's
        if len(axes.get_legend_handles_labels()[0]) > 1:
            for text in axes.legend(frameon=False, fontsize=FONT_SIZE, labelcolor=INK).get_texts():
                text.set_text(text.get_text().removeprefix(LABEL_PREFIX))
        axes.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Chart(title, _apply_theme(file.getvalue(), translate(title)), plot.place_points())


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
