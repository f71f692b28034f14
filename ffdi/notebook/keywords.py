"""Functions that take the flags of a command as keywords."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from ffdi.core import calls, flags
from ffdi.core.calls import Outcome
from ffdi.core.errors import ConfigError, suggest_nearest
from ffdi.core.flags import Flag
from ffdi.experiments.workspace import Workspace
from ffdi.notebook import spelling
from ffdi.notebook.registry import Function, functions

Place = str | os.PathLike[str]
Places = Place | Sequence[Place]
"""A name or a folder, or several."""
Given = ParamSpec("Given")
Returned = TypeVar("Returned")
Options = TypeVar("Options")


def takes_flags(command: str, options: type[Any]) -> Callable[[Callable[Given, Returned]], Callable[Given, Returned]]:
    """Lets a function take all flags of a command as keywords: its signature and its docstring name them.

    Args:
        command: such as 'train-folds'.
        options: the command's options dataclass.
    """
    listed = flags.list_flags(options)
    flags.register(command, listed)
    by_keyword = {get_keyword(one): one for one in listed}

    def decorate(function: Callable[Given, Returned]) -> Callable[Given, Returned]:
        name = function.__name__
        functions[command] = Function(name, by_keyword)
        own = [one for one in inspect.signature(function).parameters.values() if one.kind is not one.VAR_KEYWORD]
        others = {word: one for word, one in by_keyword.items() if word not in {one.name for one in own}}
        parameters = [inspect.Parameter(word, inspect.Parameter.KEYWORD_ONLY, default=None) for word in others]
        known = [one.name for one in (*own, *parameters)]

        @wraps(function)
        def call(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
            for word, value in kwargs.items():
                if word not in known:
                    raise _refuse(name, word, value, known)
            return function(*args, **kwargs)

        call.__signature__ = inspect.Signature([*own, *parameters])  # type: ignore[attr-defined]
        call.__doc__ = _describe(function, command, others)
        return call

    return decorate


def get_keyword(flag: Flag) -> str:
    """The keyword for a flag: `as` is a word of Python."""
    return "name" if flag.name == "as_" else flag.name


def run(command: Callable[[Workspace, Options], None], options: type[Options], values: Mapping[str, object]) -> Outcome:
    """Runs a command in the workspace of the notebook.

    Args:
        command: the function `run` of its module.
        options: its options dataclass.
        values: by keyword; None leaves a flag at its default.

    Raises:
        FFDIError: an error that a person can correct; its next step is a call of a function.
        Stopped: by the button of the notebook.
    """
    by_keyword = {get_keyword(one): one.name for one in flags.list_flags(options)}
    fields = {by_keyword[word]: value for word, value in values.items()}
    workspace = Workspace.find(Path.cwd())
    return calls.call(options, fields, lambda given: command(workspace, given), spelling.rewrite)


def _describe(function: Callable[..., object], command: str, others: Mapping[str, Flag]) -> str:
    lines = [f"        {word}: {one.help}" for word, one in others.items()]
    more = [f"    Other keywords, the flags of `invoke {command}`:", *lines, ""] if lines else []
    return "\n".join([inspect.cleandoc(function.__doc__ or ""), "", *(line[4:] for line in more)])


def _refuse(function: str, word: str, value: object, known: Sequence[str]) -> ConfigError:
    if "set" in known:
        from ffdi.config import schema

        if keys := schema.find_keys(word):
            return ConfigError(
                f"ffdi.{function}() has no keyword '{word}', but config.toml has {' and '.join(keys)}",
                hint=f"pass set={{{keys[0]!r}: {value!r}}}",
            )
    return ConfigError(
        f"ffdi.{function}() has no keyword '{word}': {suggest_nearest(word, known)}",
        hint=f"help(ffdi.{function}) explains them",
    )
