"""Completes the commands that messages suggest: they get --experiment, --name and --data of the running command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

WORD = r"""(?!-)(?:'[^']*'|"[^"]*"|[^\s,;:'"]|[,:](?=\S))+"""
COMMAND = re.compile(rf"invoke (?P<name>[a-z]+(?:-[a-z]+)*)(?P<flags>(?: --[a-z-]+(?: {WORD})?)*)")
"""A command in a sentence, with its flags; words may be quoted for a shell."""
COVERED = {"data": ("data", "images")}
"""Flags that are not carried over to a command that has one of these flags; for others only the flag itself."""

Flags = Mapping[str, Sequence[str]]
"""The words of each flag, by its name; a flag without words was not passed."""
_carried: Flags = {}
_accepted: Mapping[str, Mapping[str, bool]] = {}
Rewrite = Callable[[str], str]
"""Writes a command for the shell in another way."""
_rewrite: Rewrite = str


@contextmanager
def carry_flags(flags: Flags, accepted: Mapping[str, Mapping[str, bool]], rewrite: Rewrite = str) -> Iterator[None]:
    """Inside, `complete` adds flags of the running command to suggested commands.

    Args:
        flags: of the running command, in the order in which they are added.
        accepted: by command, the flags that it takes from another one, and whether each can be repeated.
        rewrite: what `complete` does to each complete command.
    """
    global _carried, _accepted, _rewrite
    before = _carried, _accepted, _rewrite
    _carried, _accepted, _rewrite = flags, accepted, rewrite
    try:
        yield
    finally:
        _carried, _accepted, _rewrite = before


def complete(hint: str) -> str:
    """Adds the flags of the running command to the commands in a hint that lack them."""
    return COMMAND.sub(_add_flags, hint)


def _add_flags(found: re.Match[str]) -> str:
    accepted, text = _accepted.get(found["name"], {}), found[0]
    for flag, words in _carried.items():
        named = re.search(rf"--({'|'.join(COVERED.get(flag, (flag,)))})\b", found["flags"])
        if flag in accepted and not named and (len(words) == 1 or accepted[flag]):
            text += "".join(f" --{flag} {shlex.quote(word)}" for word in words)
    return _rewrite(text)
