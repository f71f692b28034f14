"""Commands: an invoke task takes its flags from the fields of an options dataclass.

A command prints for a person, or with --json for a program, and ends with an exit code and one clear error message.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from io import TextIOWrapper
from typing import Any, TypeVar

from invoke import Context, Task, task
from invoke.exceptions import Exit

from ffdi.core import failures, flags, hints
from ffdi.core.errors import ConfigError
from ffdi.core.flags import flag
from ffdi.core.translation import check_language, translate

CLOSED_PIPE = 141
"""The exit code of a program that wrote to a closed pipe, in a shell."""
Options = TypeVar("Options")
SHORT = {"experiment": "e"}
"""Flags that also have a short form, such as -e."""


@dataclass(frozen=True)
class OutputOptions:
    """Flags of every command."""

    quiet: bool = flag(False, "print only warnings and errors")
    json: bool = flag(False, "print everything in one line of JSON at the end, for programs")


class _Task(Task[Any]):
    """A task of invoke, with the flags of `SHORT`."""

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, Any]:
        options = super().arg_opts(name, default, taken_names)
        if name in SHORT:
            options["names"] = (*options["names"], SHORT[name])
        return options


def command(options: type[Options]) -> Callable[[Callable[[Options], None]], Task[Any]]:
    """Makes an invoke task of a function that takes an options object.

    Args:
        options: a dataclass that has a field, made by `flag`, for each flag.
    """
    own = flags.list_flags(options)
    shown = sorted([*own, *flags.list_flags(OutputOptions)], key=lambda one: not one.positional)

    def decorate(function: Callable[[Options], None]) -> Task[Any]:
        name = function.__name__.replace("_", "-")
        flags.register(name, own)

        @wraps(function)
        def call(_context: Context, quiet: bool, json: bool, **values: Any) -> None:
            def body() -> None:
                check_language()
                function(options(**{one.name: one.parse(values[one.name]) for one in own}))

            with hints.carry_flags(flags.list_carried(own, values), flags.accepted):
                if quiet or json:
                    _run_captured(name, json, body)
                else:
                    _run_printed(body)

        call.__doc__ = translate(function.__doc__ or "")
        context = inspect.Parameter("_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = [context, *(one.parameter() for one in shown)]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        made: Task[Any] = task(
            klass=_Task,
            auto_shortflags=False,
            positional=[one.name for one in shown if one.positional],
            iterable=[one.name for one in shown if one.kind is tuple],
            help={
                one.name: translate(f"{one.help} (default: {one.shown_default})" if one.shown_default else one.help)
                for one in shown
            },
        )(call)
        return made

    return decorate


def refuse_renamed_flags(words: Sequence[str], renamed: Mapping[str, str]) -> None:
    """Ends the process if a command line has a flag of an earlier version.

    Args:
        words: the command line after `invoke`.
        renamed: the new name of each old flag.
    """
    for word in words:
        old = word.partition("=")[0]
        if old in renamed:
            from ffdi.core import console

            error = ConfigError(f"{old} is now {renamed[old]}", hint=f"pass {renamed[old]} instead")
            console.show_failure(f"error: {error}")
            raise Exit(code=1)


def _run_printed(body: Callable[[], None]) -> None:
    """Runs a command that prints as it works."""
    from ffdi.core import console

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # some terminals cannot show every letter of a name
    failure = failures.find_failure(lambda: _run_watched(body))
    with _end_at_closed_pipe():
        sys.stdout.flush()
    if failure:
        console.show_failure(failure.text)
        raise Exit(code=failure.code)


def _run_watched(body: Callable[[], None]) -> None:
    from ffdi.core import console

    with console.show_signs_of_life():
        body()


def _run_captured(name: str, json: bool, body: Callable[[], None]) -> None:
    """Runs a command that prints at its end, except for announcements: one line of JSON, or warnings and an error."""
    from ffdi.core import console

    def announce(facts: Mapping[str, str]) -> None:
        print(console.as_json(command=name, **facts) if json else "\n".join(facts.values()), flush=True)

    if json and isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # the encoding of JSON
    with console.capture_output(announce) as output:
        failure = failures.find_failure(body)
    if json:
        with _end_at_closed_pipe():
            print(output.json(command=name, error=failure.error if failure else None), flush=True)
    else:
        for warning in output.warnings:
            console.show_failure(f"warning: {warning}")
    if failure:
        if not json:
            console.show_failure(failure.text)
        raise Exit(code=failure.code)


@contextmanager
def _end_at_closed_pipe() -> Iterator[None]:
    """Inside, output that nobody reads any more, as after `| head`, ends the process without a traceback."""
    try:
        yield
    except BrokenPipeError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it again at its end
        raise Exit(code=CLOSED_PIPE) from None
