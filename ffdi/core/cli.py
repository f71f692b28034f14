"""Commands: an invoke task takes its flags from the fields of an options dataclass.

A command prints for a person, or with --json for a program, and ends with an exit code and one clear error message.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from functools import wraps
from io import TextIOWrapper
from types import UnionType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from invoke import Context, Task, task
from invoke.exceptions import Exit

from ffdi.core import hints, machine, names
from ffdi.core.errors import ConfigError, FFDIError

DIGITS = 10
"""Numbers have fewer digits than this."""
RESUME = "nothing finished is lost; the same command does the rest"
CLOSED_PIPE = 141
"""The exit code of a program that wrote to a closed pipe, in a shell."""
REINSTALL = "install it again in this environment: pip install -e ."

Default = TypeVar("Default")
Options = TypeVar("Options")
SHORT = {"experiment": "e"}
"""Flags that also have a short form, such as -e."""
_carried_flags: dict[str, dict[str, bool]] = {}
"""By command, the flags that it takes from a command that suggests it, and whether each can be repeated."""


def flag(
    default: Default,
    help: str,
    *,
    least: float = 0,
    most: float = 1,
    positional: bool = False,
    carried: bool = False,
) -> Default:
    """Declares a flag as a field of an options dataclass.

    Args:
        default: a str, an int, a float, False, or a tuple of str for a flag that may be repeated; None: no value.
        help: for `invoke --help`, which adds the default.
        least: the smallest number that a flag of type int or float accepts.
        most: the largest number that a flag of type float accepts.
        positional: whether it is an argument without a flag's name, which must be given; its default has no effect.
        carried: whether a command gets it from one that suggests it: it means the same in both.
    """
    metadata = {"help": help, "least": least, "most": most, "positional": positional, "carried": carried}
    declared: Default = field(default=default, metadata=metadata)
    return declared


@dataclass(frozen=True)
class OutputOptions:
    """Flags of every command."""

    quiet: bool = flag(False, "print only warnings and errors")
    json: bool = flag(False, "print everything in one line of JSON at the end, for programs")


class _Flag(NamedTuple):
    """A field of an options dataclass.

    Attributes:
        kind: bool, int, float, str or tuple.
    """

    name: str
    kind: type
    default: Any
    help: str
    least: float
    most: float
    positional: bool
    carried: bool

    @property
    def text(self) -> str:
        """The flag on the command line; the field of a flag that is a word of Python ends in an underscore."""
        return f"--{self.name.rstrip('_').replace('_', '-')}"

    def list_words(self, value: Any) -> list[str]:
        """The words of the flag on the command line, from invoke's value; none if it has its default."""
        words = value if isinstance(value, list) else [value] if value else []
        return [] if words == (list(self.default) if self.kind is tuple else [self.shown_default]) else words

    @property
    def shown_default(self) -> str:
        """The default on the command line; '' where there is none."""
        if self.kind is bool or self.default is None or self.positional:
            return ""
        return " ".join(self.default) if self.kind is tuple else str(self.default)

    def parameter(self) -> inspect.Parameter:
        """The parameter that invoke makes the flag of; invoke would print a traceback for a bad int, so it is a str."""
        default: Any = False if self.kind is bool else None if self.kind is tuple else self.shown_default
        if self.positional:
            default = inspect.Parameter.empty
        return inspect.Parameter(self.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)

    def parse(self, value: Any) -> Any:
        """The field's value.

        Args:
            value: from invoke: a bool, a list of str, or a str.

        Raises:
            ConfigError: it is not UTF-8 (Linux accepts any bytes as arguments), or not a number.
        """
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and not names.is_text(word):
                raise ConfigError(
                    f"{self.text} {word}: no UTF-8", hint="rename what it names; ffdi writes names as UTF-8"
                )
        if self.kind is bool:
            return value
        if self.kind is tuple:
            return tuple(value) or self.default
        if not value and (self.kind in (int, float) or self.default is None):
            return self.default
        return {int: self._whole_number, float: self._number}.get(self.kind, str)(value)

    def _number(self, value: str) -> float:
        with suppress(ValueError):
            if self.least <= float(value) <= self.most:
                return float(value)
        raise ConfigError(
            f"{self.text} {value}: not a number from {self.least:g} to {self.most:g}",
            hint=f"pass {self.text} {self.default:g}, or leave it out",
        )

    def _whole_number(self, value: str) -> int:
        if not (value.isdecimal() and len(value) < DIGITS and int(value) >= self.least):
            expected = f"{self.least} or more" if self.least else "a whole number"
            raise ConfigError(f"{self.text} {value}: not {expected}", hint=f"pass {self.text} {self.least} or more")
        return int(value)


class _Task(Task[Any]):
    """A task of invoke, with the flags of `SHORT`."""

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, Any]:
        options = super().arg_opts(name, default, taken_names)
        if name in SHORT:
            options["names"] = (*options["names"], SHORT[name])
        return options


class Failure(NamedTuple):
    """Why a command ended early.

    Attributes:
        text: for a terminal.
        error: the key `error` of the JSON line.
        code: the exit code.
    """

    text: str
    error: dict[str, Any]
    code: int


def command(options: type[Options]) -> Callable[[Callable[[Options], None]], Task[Any]]:
    """Makes an invoke task of a function that takes an options object.

    Args:
        options: a dataclass that has a field, made by `flag`, for each flag.
    """
    flags = sorted([*_flags(options), *_flags(OutputOptions)], key=lambda one: not one.positional)
    carried_flags = sorted((one for one in flags if one.carried), key=lambda one: one.name != "experiment")

    def decorate(function: Callable[[Options], None]) -> Task[Any]:
        name = function.__name__.replace("_", "-")

        @wraps(function)
        def call(_context: Context, quiet: bool, json: bool, **values: Any) -> None:
            def body() -> None:
                function(options(**{one.name: one.parse(values[one.name]) for one in flags if one.name in values}))

            carried = {one.name: one.list_words(values[one.name]) for one in carried_flags}
            with hints.carry_flags(carried, _carried_flags):
                if quiet or json:
                    _run_captured(name, json, body)
                else:
                    _run_printed(body)

        context = inspect.Parameter("_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = [context, *(one.parameter() for one in flags)]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        _carried_flags[name] = {one.name: one.kind is tuple for one in carried_flags}
        made: Task[Any] = task(
            klass=_Task,
            auto_shortflags=False,
            positional=[one.name for one in flags if one.positional],
            iterable=[one.name for one in flags if one.kind is tuple],
            help={
                one.name: f"{one.help} (default: {one.shown_default})" if one.shown_default else one.help
                for one in flags
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


def _flags(options: type[Any]) -> list[_Flag]:
    types = get_type_hints(options)
    return [_Flag(one.name, _kind(types[one.name]), one.default, **one.metadata) for one in fields(options)]


def _kind(hint: Any) -> type:
    """The type without None and without its items' type."""
    if isinstance(hint, UnionType):
        hint = next(one for one in get_args(hint) if one is not type(None))
    kind: type = get_origin(hint) or hint
    return kind


def _run_printed(body: Callable[[], None]) -> None:
    """Runs a command that prints as it works."""
    from ffdi.core import console

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # some terminals cannot show every letter of a name
    failure = _find_failure(lambda: _run_watched(body))
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
        failure = _find_failure(body)
    if json:
        with _end_at_closed_pipe():
            print(output.json(command=name, error=failure.error if failure else None), flush=True)
    else:
        print("".join(f"warning: {warning}\n" for warning in output.warnings), end="", file=sys.stderr)
    if failure:
        raise Exit("" if json else failure.text, code=failure.code)


@contextmanager
def _end_at_closed_pipe() -> Iterator[None]:
    """Inside, output that nobody reads any more, as after `| head`, ends the process without a traceback."""
    try:
        yield
    except BrokenPipeError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it again at its end
        raise Exit(code=CLOSED_PIPE) from None


def _find_failure(body: Callable[[], None]) -> Failure | None:
    """Runs a command; explains an error that a person can correct. An error of ffdi itself keeps its traceback."""
    from ffdi.core.signals import Interrupted

    try:
        body()
    except Interrupted as interrupted:
        return _explain_stop(f"stopped ({interrupted.why}): {RESUME}", interrupted.code)
    except FFDIError as error:
        return _explain(error)
    except KeyboardInterrupt:
        return _explain_stop(f"stopped: {RESUME}", 130)
    except Exception as error:
        if machine.is_memory_error(error):
            return _explain(machine.explain_memory_error(error))
        if isinstance(error, OSError):
            place = f"{error.filename}: " if error.filename else ""
            return _explain(FFDIError(f"{place}{error.strerror or error}", hint=f"mend that; {RESUME}"))
        if isinstance(error, ImportError) and not (error.name or "").startswith("ffdi"):
            return _explain(ConfigError(f"a library cannot be loaded: {error}", hint=REINSTALL))
        raise
    return None


def _explain(error: FFDIError) -> Failure:
    error.hint = hints.complete(error.hint)
    return Failure(f"error: {error}", {"what": error.what, "problems": list(error.problems), "next": error.hint}, 1)


def _explain_stop(text: str, code: int) -> Failure:
    return Failure(text, {"what": text, "problems": [], "next": "the same command"}, code)
