"""Adds --data to the commands that messages suggest."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager

WORD = r"""(?!-)(?:'[^']*'|"[^"]*"|[^\s,;:'"]|[,:](?=\S))+"""
COMMAND = re.compile(rf"invoke (?P<name>[a-z]+(?:-[a-z]+)*)(?P<flags>(?: --[a-z-]+(?: {WORD})?)*)")
"""A command in a sentence, with its flags; words may be quoted for a shell."""

_data: tuple[str, Collection[str]] = ("", ())


@contextmanager
def carry_data(data: str, commands: Collection[str]) -> Iterator[None]:
    """Inside, `complete` adds --data to suggested commands.

    Args:
        data: the value of --data; '' without the flag.
        commands: the commands that have the flag.
    """
    global _data
    before, _data = _data, (data, commands)
    try:
        yield
    finally:
        _data = before


def complete(hint: str) -> str:
    """Adds the --data of the running command to the commands in a hint."""
    return COMMAND.sub(_add_data, hint)


def _add_data(found: re.Match[str]) -> str:
    data, commands = _data
    named = found["name"] in commands and not re.search(r"--(data|images)\b", found["flags"])
    return f"{found[0]} --data {shlex.quote(data)}" if data and named else found[0]
