"""Charts: what is drawn, small and alike however many images there are."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from ffdi.reporting import charts


def scored(images: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    target = np.arange(images) % 2
    return target, 1 / (1 + np.exp(-rng.normal(target, 1)))


HISTORY = {"epoch": [1, 2], "train_loss": [0.7, 0.5], "heldout_loss": [0.7, 0.6], "heldout_auc": [0.5, 0.8]}


def drawn(images: int = 500) -> list[str]:
    """All kinds of charts."""
    both = {"one": scored(images), "A & B <i> $x$ $y$": scored(images)}
    return [
        *charts.draw_curves({"fold 0": HISTORY, "fold 1": HISTORY}),
        *charts.draw_roc(both),
        charts.draw_precision_recall(both),
        charts.draw_calibration(both),
        charts.draw_histogram("one, out of fold", *scored(images)),
    ]


def test_a_chart_is_an_svg_with_a_label_in_the_pages_colours() -> None:
    for chart in drawn():
        root = ElementTree.fromstring(chart)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"]
        assert "width" not in root.attrib
        assert set(re.findall(r"#[0-9a-f]{6}", chart)) == set()
        assert "font-family" not in chart


def test_names_are_shown_as_they_are() -> None:
    words = "".join(
        ElementTree.fromstring(charts.draw_roc({"a": scored(9), "A & B <i> $x$ $y$": scored(9)})[0]).itertext()
    )
    assert "A & B <i> $x$ $y$" in words


def test_the_same_scores_give_the_same_bytes_and_no_two_charts_share_an_id() -> None:
    assert drawn() == drawn()
    ids = [one for chart in drawn() for one in re.findall(r' id="([^"]+)"', chart)]
    assert len(ids) == len(set(ids))


def test_a_chart_of_150000_images_is_hardly_larger_than_one_of_500() -> None:
    assert max(map(len, drawn(150_000))) < 200_000


@pytest.mark.parametrize("label", [0, 1])
def test_a_perfect_and_a_reversed_score_can_be_drawn(label: int) -> None:
    target = np.repeat([0, 1], 20)
    assert len(charts.draw_roc({"one": (target, np.where(target == label, 0.9, 0.1))})) == 2
