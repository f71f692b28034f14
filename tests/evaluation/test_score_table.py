"""A table of scores as text."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ffdi.evaluation import score_table


def test_scores_have_nine_digits_and_names_are_quoted() -> None:
    content = score_table.format_scores(np.array(["a.jpg", "b,c.jpg"]), np.array([1 / 3, 1.0]))
    assert content == 'img_name,y_pred\na.jpg,0.333333333\n"b,c.jpg",1\n'


def test_parts_without_headers_can_be_concatenated() -> None:
    names, y_pred = np.array(["a", "b", "c"]), np.array([0.1, 0.2, 0.3], np.float32)
    parts = [
        score_table.format_scores(names[:2], y_pred[:2]),
        score_table.format_scores(names[2:], y_pred[2:], header=False),
    ]
    assert "".join(parts) == score_table.format_scores(names, y_pred)


@given(st.lists(st.floats(0, 1, width=32), min_size=1))
def test_a_float32_is_restored_exactly(values: list[float]) -> None:
    y_pred = np.array(values, np.float32)
    lines = score_table.format_scores(np.arange(len(y_pred)).astype(str), y_pred).splitlines()[1:]
    assert np.array([line.split(",")[1] for line in lines], np.float32).tobytes() == y_pred.tobytes()
