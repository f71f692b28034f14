"""Commands that messages suggest: the data folder that this command was given goes with them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager

WORD = r"""(?!-)(?:'[^']*'|"[^"]*"|[^\s,;:'"])+"""
COMMAND = re.compile(rf"invoke (?P<name>[a-z]+(?:-[a-z]+)*)(?P<flags>(?: --[a-z-]+(?: {WORD})?)*)")
"""A command in a sentence, with its flags; words may be quoted for a shell."""

_data: tuple[str, Collection[str]] = ("", ())


@contextmanager
def carry_data(data: str, commands: Collection[str]) -> Iterator[None]:
    """Inside, `complete` adds this --data to the commands that take one.

    Args:
        data: as the person wrote it; empty where it was not given.
        commands: those that have the flag.
    """
    global _data
    before, _data = _data, (data, commands)
    try:
        yield
    finally:
        _data = before


def complete(hint: str) -> str:
    """A hint whose commands read the same data as the one that is running."""
    return COMMAND.sub(_add_data, hint)


def _add_data(found: re.Match[str]) -> str:
    data, commands = _data
    named = found["name"] in commands and not re.search(r"--(data|images)\b", found["flags"])
    return f"{found[0]} --data {shlex.quote(data)}" if data and named else found[0]
