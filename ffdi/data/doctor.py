"""Looks at every image before an hour is spent on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ffdi.data import images
from ffdi.data.table import Table
from ffdi.errors import DataError
from ffdi.publish import digest


@dataclass(frozen=True)
class Finding:
    """What one image is: the hash of its file, and what is wrong with it ('' where nothing is)."""

    img_name: str
    sha256: str
    fault: str


def examine(table: Table, threads: int) -> Iterator[Finding]:
    """Reads and decodes every image once, in the table's order, `threads` at a time."""
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(table), 1024):  # bounded: map() would queue all of them at once
            yield from pool.map(lambda index: _examine(table, index), range(start, min(start + 1024, len(table))))


def conclude(table: Table, findings: Iterable[Finding]) -> str:
    """The digest of a split: names, labels, groups and every image's bytes.

    Raises:
        DataError: lists every image that cannot be used.
    """
    findings = list(findings)
    problems = [finding.fault for finding in findings if finding.fault]
    if problems:
        raise DataError(
            f"{len(problems)} of {len(table)} {table.split} images cannot be used",
            problems=problems,
            hint=f"replace these files, or take their rows out of {table.source}; nothing was written",
        )
    target = [None] * len(table) if table.target is None else table.target.tolist()
    group = [None] * len(table) if table.group is None else table.group.tolist()
    rows = zip(table.img_name.tolist(), target, group, (one.sha256 for one in findings), strict=True)
    return digest(sorted(rows))


def _examine(table: Table, index: int) -> Finding:
    name, path = str(table.img_name[index]), table.path(index)
    try:
        content = path.read_bytes()
        images.decode(content, str(path))
    except OSError as error:
        return Finding(name, "", f"{path} cannot be read: {error.strerror}")
    except DataError as error:
        return Finding(name, "", error.what)
    return Finding(name, hashlib.sha256(content).hexdigest(), "")
