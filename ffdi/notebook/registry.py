"""Which function calls which command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ffdi.core.flags import Flag


class Function(NamedTuple):
    """A function, and the flags of its command by keyword."""

    name: str
    flags: Mapping[str, Flag]


functions: dict[str, Function] = {}
"""By command."""
