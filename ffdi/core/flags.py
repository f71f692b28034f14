"""Flags of commands: declared as fields of an options dataclass, and read from words or from values of Python."""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, fields
from numbers import Real
from types import UnionType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from ffdi.core import names
from ffdi.core.errors import ConfigError

DIGITS = 10
"""Numbers have fewer digits than this."""
Default = TypeVar("Default")
accepted: dict[str, dict[str, bool]] = {}
"""By command, the flags that it takes from a command that suggests it, and whether each can be repeated."""


def flag(
    default: Default,
    help: str,
    *,
    least: float = 0,
    most: float = 1,
    positional: bool = False,
    carried: bool = False,
    commas: bool = False,
) -> Default:
    """Declares a flag as a field of an options dataclass.

    Args:
        default: a str, an int, a float, False, or a tuple of str for a flag that may be repeated; None: no value.
        help: for `invoke --help`, which adds the default.
        least: the smallest number that a flag of type int or float accepts.
        most: the largest number that a flag of type float accepts.
        positional: whether it is an argument without a flag's name, which must be given; its default has no effect.
        carried: whether a command gets it from one that suggests it: it means the same in both.
        commas: whether its value is a list of words, with commas between them.
    """
    metadata = {
        **{"help": help, "least": least, "most": most},
        **{"positional": positional, "carried": carried, "commas": commas},
    }
    declared: Default = field(default=default, metadata=metadata)
    return declared


class Flag(NamedTuple):
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
    commas: bool

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

    def spell(self, value: object) -> bool | str | list[str]:
        """What `parse` takes, from a value of Python.

        Args:
            value: a bool for a flag without a value; a str, a number or a path for a flag with one; or a list of these
                for a flag that may be repeated, or that has commas.

        Raises:
            ConfigError: it is of another type.
        """
        if self.kind is bool:
            if isinstance(value, bool):
                return value
            raise self._refuse(value, "True or False")
        several = list(value) if isinstance(value, Collection) and not isinstance(value, (str, bytes)) else [value]
        words = [_spell_word(one) for one in several]
        if None in words:
            raise self._refuse(value, "a number" if self.kind in (int, float) else "a str or a path")
        found = [word for word in words if word is not None]
        if self.kind is tuple:
            return found
        if len(found) != 1 and not (self.commas and found):
            raise self._refuse(value, "one value")
        return ",".join(found)

    def _refuse(self, value: object, expected: str) -> ConfigError:
        return ConfigError(
            f"{self.name.rstrip('_')}={value!r}: not {expected}",
            hint=f"pass {expected}, or leave it out; it is {self.help}",
        )

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


def list_flags(options: type[Any]) -> list[Flag]:
    types = get_type_hints(options)
    return [Flag(one.name, _kind(types[one.name]), one.default, **one.metadata) for one in fields(options)]


def _kind(hint: Any) -> type:
    """The type without None and without its items' type."""
    if isinstance(hint, UnionType):
        hint = next(one for one in get_args(hint) if one is not type(None))
    kind: type = get_origin(hint) or hint
    return kind


def register(command: str, flags: Sequence[Flag]) -> None:
    """Notes which flags a suggested command takes over."""
    accepted[command] = {one.name: one.kind is tuple for one in flags if one.carried}


def list_carried(flags: Sequence[Flag], values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Lists the words of each flag that suggested commands take over, --experiment first.

    Args:
        flags: of a command.
        values: as for `Flag.parse`; a flag without one has its default.
    """
    carried = sorted((one for one in flags if one.carried), key=lambda one: one.name != "experiment")
    return {one.name: one.list_words(values.get(one.name)) for one in carried}


def _spell_word(value: object) -> str | None:
    """A value of Python on the command line; None if it is none."""
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    return str(value) if isinstance(value, Real) and not isinstance(value, bool) else None
