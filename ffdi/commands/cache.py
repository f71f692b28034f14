"""Packs a data folder's images into one file, which is faster to read."""

from __future__ import annotations

import shlex
import shutil

import numpy as np

from ffdi.commands.shared import inspection, sources
from ffdi.commands.shared.options import CacheOptions
from ffdi.config import schema
from ffdi.core import console, files, hints, machine
from ffdi.core.errors import ConfigError, ExperimentError, format_count
from ffdi.data.images import cache
from ffdi.data.images.cache import ImageStore
from ffdi.data.inspection import packing
from ffdi.data.inspection.scan_store import ScanStore
from ffdi.data.labels import layout
from ffdi.data.labels.layout import Dataset
from ffdi.experiments.experiment import lock_folder
from ffdi.experiments.workspace import Workspace

UNITS = ("bytes", "kB", "MB", "GB", "TB")


def run(workspace: Workspace, options: CacheOptions) -> None:
    """Packs the images that the cache lacks, and scans all images for duplicates."""
    experiment = workspace.get_experiment(options.experiment)
    settings = schema.load_experiment(experiment.config_path)
    root = sources.find_data_root(workspace, experiment, settings, options.data)
    folder = sources.build_store(workspace, settings, root).folder
    with lock_folder(folder, f"packs the images of {root}", "wait until it has"):
        if options.restart:
            cache.discard(folder)
        store = sources.build_store(workspace, settings, root)
        dataset = cache.attach(layout.find_dataset(root, settings.data), store)
        sources.show_notes(*dataset.splits.values())
        total, left = sum(map(len, dataset.splits.values())), _count_unpacked(dataset)
        console.title(f"cache: {format_count(total, 'image')} under {root}, {left} of them to be packed")
        if left:
            _confirm(store, _estimate_size(store, dataset), options.yes)
            _pack(workspace, store, dataset, left)
            dataset = cache.attach(dataset, sources.build_store(workspace, settings, root))
        diagnosis = inspection.scan_dataset(workspace, dataset)
        inspection.write_findings(experiment, diagnosis, inspection.format_image_list(settings, diagnosis))
    _show(dataset)
    if left := _count_unpacked(dataset):
        command = hints.complete(f"invoke doctor --experiment {shlex.quote(options.experiment)}")
        console.say(f"{format_count(left, 'image')} cannot be packed: {command} says why")
    console.advise(f"invoke train-folds --experiment {shlex.quote(options.experiment)}")


def _pack(workspace: Workspace, store: ImageStore, dataset: Dataset, left: int) -> None:
    findings = ScanStore(workspace.findings_path)
    try:
        with console.bar("packing", left, unit="images") as bar:
            for done in packing.fill_cache(store, list(dataset.splits.values()), findings, machine.count_cores()):
                bar.advance(done)
    finally:
        findings.close()


def _count_unpacked(dataset: Dataset) -> int:
    return sum(len(cache.list_missing_rows(table)) for table in dataset.splits.values())


def _estimate_size(store: ImageStore, dataset: Dataset) -> int:
    """The largest size of the images to pack; duplicates, which are packed once, are counted twice."""
    tables = dataset.splits.values()
    if store.resize_policy is not None:
        return _count_unpacked(dataset) * (store.resize_policy.size**2 * 3 + cache.RECORD.itemsize)
    rows = [(table, row) for table in tables for row in cache.list_missing_rows(table).tolist()]
    return sum(table.path(row).stat().st_size + cache.RECORD.itemsize for table, row in rows)


def _confirm(store: ImageStore, wanted: int, yes: bool) -> None:
    """Prints the size of the cache, and asks before decoded pixels are written, which are larger than their files.

    Raises:
        ExperimentError: the disk is too small.
        ConfigError: the person cannot be asked, or declined.
    """
    with files.explain_write_errors(store.folder):
        store.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(store.folder).free
    console.say(f"to be written: at most {_format_size(wanted)} into {store.folder}; {_format_size(free)} are free")
    if wanted > free:
        raise ExperimentError(
            f"{store.folder} has {_format_size(free)} left, and the cache would take up to {_format_size(wanted)}",
            hint="free the disk, or set FFDI_ROOT to a folder on a larger one",
        )
    if yes or store.resize_policy is None:
        return
    if not console.can_ask():
        raise ConfigError(
            f"the pixels of these images would take up to {_format_size(wanted)}", hint="pass --yes to write them"
        )
    if input("write them? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was written", hint="pass --yes, or set cache.decoded = false in config.toml")


def _show(dataset: Dataset) -> None:
    packed = [rows for table in dataset.splits.values() if (rows := cache.get_cached_rows(table)) is not None]
    store, numbers = packed[0].store, np.concatenate([one.number for one in packed])
    used, total = store.count_used_bytes(numbers[numbers >= 0]), store.size
    console.written(store.pack_path, about=f" ({_format_size(total)})")
    if used < total // 2:
        console.say(f"{_format_size(total - used)} of it belong to deleted images: --restart removes them")


def _format_size(count: int) -> str:
    """A size with three digits and a unit."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {UNITS[unit]}"
