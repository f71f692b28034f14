"""Keys of config.toml in a dict, as the words of --set."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ffdi.core.errors import ConfigError

Settings = Mapping[str, Any]
"""Values by full key, such as {'train.epochs': 3}."""


def format_settings(settings: Settings | Sequence[str] | None) -> list[str]:
    """Returns words such as 'train.epochs=3'; a list stays as it is.

    Raises:
        ConfigError: a value has no form in TOML.
    """
    if not isinstance(settings, Mapping):
        return _as_words(settings)
    return [f"{key}={_format_value(key, value)}" for key, value in settings.items()]


def format_grid(grid: Settings | Sequence[str] | None) -> list[str]:
    """Returns words such as 'train.lr=0.0001,0.001' for a list of values, or 'train.lr=1e-5..1e-2' for a range.

    Raises:
        ConfigError: a value has no form in TOML.
    """
    if not isinstance(grid, Mapping):
        return _as_words(grid)
    several = {key: value if isinstance(value, (list, tuple)) else [value] for key, value in grid.items()}
    return [f"{key}={','.join(_format_value(key, one) for one in values)}" for key, values in several.items()]


def _as_words(words: Sequence[str] | None) -> list[str]:
    return [words] if isinstance(words, str) else list(words or ())


def _format_value(key: str, value: object) -> str:
    """The JSON of text, numbers, true, false and lists is TOML too."""
    try:
        if value is None:
            raise TypeError
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_simplify)
    except (AttributeError, TypeError, ValueError):
        raise ConfigError(
            f"set: {key} = {value!r} has no form in config.toml", hint="pass text, a number, True, False or a list"
        ) from None


def _simplify(value: Any) -> object:
    """A path as text, a number of NumPy as one of Python."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value.item()
