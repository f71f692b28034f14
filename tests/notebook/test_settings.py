"""Keys of config.toml in a dict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffdi.config import variants
from ffdi.core.errors import ConfigError
from ffdi.notebook.settings import format_grid, format_settings

SETTINGS: dict[str, Any] = {
    "train.epochs": 3,
    "train.lr": 1e-05,
    "folds.refit": True,
    "augment.recipe": "light",
    "model.backbone": "1e5",
    "data.prefix": 'a "b", c=é\n',
    "pseudo_fakes.methods": ["self_blend", "a,b"],
    "distill.teachers": [],
}


def test_each_value_comes_back_with_its_type() -> None:
    assert variants.parse_grid(format_settings(SETTINGS)) == {key: [value] for key, value in SETTINGS.items()}


def test_paths_and_numbers_of_numpy_are_plain_values() -> None:
    found = format_settings({"data.root": Path("a b"), "train.epochs": np.int64(3), "train.lr": np.float32(0.5)})
    assert variants.parse_grid(found) == {"data.root": ["a b"], "train.epochs": [3], "train.lr": [0.5]}


def test_words_stay_as_they_are() -> None:
    assert format_settings(["train.lr=1e-4", "a=b"]) == ["train.lr=1e-4", "a=b"]
    assert format_settings("train.lr=1e-4") == ["train.lr=1e-4"]
    assert format_settings(None) == []


def test_a_list_of_a_grid_is_several_values() -> None:
    found = format_grid({"train.lr": [1e-4, 3e-4], "augment.recipe": ("light", "strong"), "train.wd": "1e-5..1e-2"})
    assert variants.parse_grid(found) == {
        "train.lr": [1e-4, 3e-4],
        "augment.recipe": ["light", "strong"],
        "train.wd": ["1e-5..1e-2"],
    }


@pytest.mark.parametrize("value", [None, object(), {1, 2}, float("nan")])
def test_a_value_without_a_form_in_toml_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^set: train\.lr = .* has no form in config\.toml"):
        format_settings({"train.lr": value})
