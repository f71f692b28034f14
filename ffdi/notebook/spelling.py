"""Writes commands for the shell as calls of functions."""

from __future__ import annotations

import shlex
from typing import Any

from ffdi.config import variants
from ffdi.notebook.registry import functions


def rewrite(command: str) -> str:
    """Returns 'ffdi.report("mine")' for 'invoke report --experiment mine'; a command without a function as it is."""
    name, *words = shlex.split(command)[1:]
    if name not in functions:
        return command
    function, found = functions[name], dict[str, Any]()
    by_flag = {one.text: (keyword, one) for keyword, one in function.flags.items()}
    while words:
        if (flag := words.pop(0)) not in by_flag:
            return command
        keyword, known = by_flag[flag]
        if known.kind is bool:
            found[keyword] = True
        elif not words:
            return command
        elif keyword == "set":
            found[keyword] = found.get(keyword, {}) | _read_setting(words.pop(0))
        elif known.kind is tuple:
            found[keyword] = [*found.get(keyword, []), words.pop(0)]
        else:
            word = words.pop(0)
            found[keyword] = int(word) if known.kind is int and word.isdecimal() else word
    experiments = found.pop("experiment", None)
    one = experiments[0] if isinstance(experiments, list) and len(experiments) == 1 else experiments
    arguments = [_quote(one)] if one is not None else []
    return (
        f"ffdi.{function.name}({', '.join([*arguments, *(f'{key}={_quote(value)}' for key, value in found.items())])})"
    )


def _read_setting(word: str) -> dict[str, Any]:
    return {key: values[0] if len(values) == 1 else values for key, values in variants.parse_grid([word]).items()}


def _quote(value: object) -> str:
    """A literal with double quotes, as in the documents."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quote(key)}: {_quote(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_quote, value))}]"
    if isinstance(value, str) and '"' not in value:
        return f'"{repr(value)[1:-1]}"' if "'" not in value else repr(value)
    return repr(value)
