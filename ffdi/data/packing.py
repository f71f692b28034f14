"""Fills a cache: every file is read once, looked at, and packed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from ffdi.data import cache, images, survey
from ffdi.data.cache import Store, Writer
from ffdi.data.findings import Findings
from ffdi.data.images import Framing
from ffdi.data.survey import Look
from ffdi.data.table import Table
from ffdi.errors import DataError

AT_ONCE = 256
"""Images that wait in memory."""
FLUSHED = 4096
"""Images that may have to be packed again after a kill."""


class _Parcel(NamedTuple):
    """A file's state before it was read, what it came to, and what is packed of it."""

    key: np.ndarray
    look: Look
    packed: bytes


def fill(store: Store, tables: Sequence[Table], findings: Findings, threads: int) -> Iterator[int]:
    """Packs the images of tables that are not packed; those that cannot be used are left out.

    Args:
        store: one process at a time; whoever reads on opens it anew.
        tables: attached to it.
        findings: are asked, and get what is new.
        threads: that read and decode.

    Yields:
        How many more are done.

    Raises:
        ExperimentError: the disk is full, or the place cannot be written.
    """
    with Writer(store) as writer, ThreadPoolExecutor(threads) as pool:
        for table in tables:
            rows = cache.missing(table)
            for start in range(0, len(rows), AT_ONCE):
                part = rows[start : start + AT_ONCE].tolist()
                parcels = pool.map(partial(_parcel, table, findings, store.framing, writer), part)
                _pack([parcel for parcel in parcels if parcel is not None], findings, writer)
                yield len(part)
        writer.flush()


def _pack(parcels: list[_Parcel], findings: Findings, writer: Writer) -> None:
    findings.keep_images((look.sha256, look.finding) for _, look, _ in parcels if look.fresh)
    for key, look, packed in parcels:
        writer.add(key, look.sha256, look.size, look.finding, packed)
    if writer.waiting >= FLUSHED:
        writer.flush()


def _parcel(table: Table, findings: Findings, framing: Framing | None, writer: Writer, row: int) -> _Parcel | None:
    """None where the image cannot be used."""
    path = table.path(row)
    try:
        key = cache.key(table, row)  # before the file is read: one that changes in between is another one then
        content = images.content(path)
        look = survey.seen(row, content, findings)
        if key is None or look.finding.fault:
            return None
        if writer.has(look.sha256):
            return _Parcel(key, look, b"")
        if framing is None:
            return _Parcel(key, look, content)
        return _Parcel(key, look, framing.frame(images.pixels(content, str(path))).tobytes())
    except DataError:
        return None
