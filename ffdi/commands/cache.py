"""Packs a data folder's images into one file, from which everything reads faster."""

from __future__ import annotations

import shlex
import shutil

import numpy as np

from ffdi.commands.shared import inspection, sources
from ffdi.config import schema
from ffdi.core import console, files, machine
from ffdi.core.errors import ConfigError, ExperimentError
from ffdi.data.images import cache
from ffdi.data.images.cache import Store
from ffdi.data.inspection import packing
from ffdi.data.inspection.scan_store import ScanStore
from ffdi.data.labels import layout
from ffdi.data.labels.layout import Dataset
from ffdi.experiments import lock
from ffdi.experiments.workspace import Workspace

UNITS = ("bytes", "kB", "MB", "GB", "TB")


def run(workspace: Workspace, name: str, *, data: str | None, yes: bool, restart: bool) -> None:
    """Packs the images that are not packed yet, and looks for copies among all of them."""
    experiment = workspace.experiment(name)
    settings = schema.load(experiment.config_path)
    root = sources.data_root(workspace, settings, data)
    folder = sources.store(workspace, settings, root).folder
    with lock.hold(folder, f"packs the images of {root}", "wait until it has"):
        if restart:
            cache.discard(folder)
        store = sources.store(workspace, settings, root)
        found = cache.attach(layout.find(root, settings.data), store)
        total, left = sum(map(len, found.splits.values())), _left(found)
        console.title(f"cache: {total} images under {root}, {left} of them to be packed")
        if left:
            _agree(store, _bytes(store, found), yes)
            _fill(workspace, store, found, left)
            found = cache.attach(found, sources.store(workspace, settings, root))
        inspection.inspect(workspace, experiment, found)
    _show(found)
    if left := _left(found):
        images = "1 image" if left == 1 else f"{left} images"
        console.say(f"{images} cannot be packed: invoke doctor --experiment {shlex.quote(name)} says why")
    console.advise(f"invoke train-folds --experiment {shlex.quote(name)}")


def _fill(workspace: Workspace, store: Store, found: Dataset, left: int) -> None:
    findings = ScanStore(workspace.findings_path)
    try:
        with console.bar("packing images", left, unit="images") as bar:
            for done in packing.fill(store, list(found.splits.values()), findings, machine.cores()):
                bar.advance(done)
    finally:
        findings.close()


def _left(found: Dataset) -> int:
    return sum(len(cache.missing(table)) for table in found.splits.values())


def _bytes(store: Store, found: Dataset) -> int:
    """How much the images that are not packed will take, were each of them another one."""
    tables = found.splits.values()
    if store.framing is not None:
        return _left(found) * (store.framing.size**2 * 3 + cache.RECORD.itemsize)
    rows = [(table, row) for table in tables for row in cache.missing(table).tolist()]
    return sum(table.path(row).stat().st_size + cache.RECORD.itemsize for table, row in rows)


def _agree(store: Store, wanted: int, yes: bool) -> None:
    """Says what will be written, and asks before pixels are, which take many times what their files do.

    Raises:
        ExperimentError: there is not so much place.
        ConfigError: nobody is there to be asked, or said no.
    """
    with files.explain_write_errors(store.folder):
        store.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(store.folder).free
    console.say(f"to be written: at most {_size(wanted)} into {store.folder}; {_size(free)} are free")
    if wanted > free:
        raise ExperimentError(
            f"{store.folder} has {_size(free)} left, and the cache would take up to {_size(wanted)}",
            hint="free the disk, or set FFDI_ROOT to a folder on a larger one",
        )
    if yes or store.framing is None:
        return
    if not console.answers():
        raise ConfigError(
            f"the pixels of these images would take up to {_size(wanted)}", hint="pass --yes, if that is what you want"
        )
    if input("write them? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was written", hint="pass --yes, or set cache.decoded = false in config.toml")


def _show(found: Dataset) -> None:
    packed = [rows for table in found.splits.values() if (rows := cache.rows_of(table)) is not None]
    store, numbers = packed[0].store, np.concatenate([one.number for one in packed])
    used, total = store.used(numbers[numbers >= 0]), store.size
    console.written(store.pack_path, about=f" ({_size(total)})")
    if used < total // 2:
        console.say(f"{_size(total - used)} of it are of images that are gone: --restart writes it anew without them")


def _size(count: int) -> str:
    """In words, to three digits."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {UNITS[unit]}"
