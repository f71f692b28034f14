"""Finds and scans the images of a command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ffdi.commands.shared.options import PredictOnnxOptions
from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.core import console, hints
from ffdi.core.errors import ConfigError, DataError, ExperimentError, format_count
from ffdi.data.images import cache
from ffdi.data.images.cache import ImageStore
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels import folders, layout
from ffdi.data.labels import table as tables
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.table import Table
from ffdi.data.splits.folds import FoldAssignment
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.ensemble.ensemble import Ensemble

DEMO = "data/quickstart"
"""The data.root of the demonstration competition."""


def find_data_root(workspace: Workspace, experiment: Experiment, settings: Config, flag: str | None) -> Path:
    """The folder with the label files; writes the demonstration competition if it does not exist yet.

    It is that of --data, else that of the training, else data.root, else the one of the experiment's last scan.

    Raises:
        ConfigError: none of them is known.
    """
    if flag:
        return Path(flag)
    if (known := find_known_root(workspace, experiment, settings)) is not None:
        return known
    if settings.data.root is None:
        raise ConfigError("no data: config.toml has no data.root", hint="pass --data FOLDER")
    if settings.data.root == DEMO:
        from ffdi.demo import competition

        root = workspace.demo_folder
        if not competition.is_made(root):
            console.say(f"making the demonstration competition in {root}")
            competition.write_competition(root)
        return root
    return workspace.root / settings.data.root


def find_known_root(workspace: Workspace, experiment: Experiment, settings: Config) -> Path | None:
    """The folder that an experiment was trained on, or scanned last if data.root does not exist; else None."""
    if experiment.provenance_path.is_file() and (trained := experiment.read_data_root()).is_dir():
        return trained
    root = settings.data.root
    if root is not None and (root == DEMO or (workspace.root / root).is_dir()):
        return None
    return experiment.read_scanned_root()


def find_dataset(workspace: Workspace, settings: Config, root: Path, *, with_landmarks: bool = True) -> Dataset:
    """The data set in a folder; its images are read from the cache if they are in it."""
    dataset = layout.find_dataset(root, settings.data, with_landmarks=with_landmarks)
    show_notes(*dataset.splits.values())
    return cache.attach(dataset, build_store(workspace, settings, root))


def show_notes(*found: Table) -> None:
    """Says how tables were read, and which files were passed over."""
    for table in found:
        for note in table.notes:
            console.say(f"{table.split}: {note}")


def build_store(workspace: Workspace, settings: Config, root: Path) -> ImageStore:
    """The cache of a data folder for an experiment; the cache may not exist."""
    resize_policy = choose_packed_policy(settings)
    return ImageStore(workspace.get_cache_folder(root, cache.get_folder_name(resize_policy)), resize_policy)


def choose_packed_policy(settings: Config) -> ResizePolicy | None:
    """How images are resized before they are packed; None: the image files are packed.

    Raises:
        ConfigError: the images cannot be resized once for all epochs.
    """
    if not settings.cache.decoded:
        if settings.cache.size:
            raise ConfigError(
                f"cache.size = {settings.cache.size} is the size of decoded images, and cache.decoded = false",
                hint="set cache.decoded = true, or cache.size = 0, in config.toml",
            )
        return None
    if not settings.model.fits_decoded_cache:
        raise ConfigError(
            f"cache.decoded = true and model.resize = '{settings.model.resize}': only whole images can be cached in a "
            "network's size",
            hint="set model.resize = 'squash', or cache.decoded = false, in config.toml",
        )
    if 0 < settings.cache.size < settings.model.size:
        raise ConfigError(
            f"cache.size = {settings.cache.size} is smaller than model.size = {settings.model.size}",
            hint="set a larger cache.size, or 0 for the network's size, in config.toml",
        )
    return ResizePolicy.from_cache(settings)


def describe_cache(dataset: Dataset) -> str | None:
    """A line for the terminal about the cached images; None if no image is cached."""
    tables = dataset.splits.values()
    total, cached = sum(map(len, tables)), sum(len(table) - len(cache.list_missing_rows(table)) for table in tables)
    stores = {rows.store.folder for table in tables if (rows := cache.get_cached_rows(table)) is not None}
    if not cached:
        return None
    rest = (
        "" if cached == total else f"; not in it, or changed since: {total - cached}; {hints.complete('invoke cache')}"
    )
    return f"cache: {cached} of {format_count(total, 'image')} in {', '.join(map(str, stores))}{rest}"


def find_experiment_dataset(workspace: Workspace, experiment: Experiment, flag: str | None) -> Dataset:
    """The data set under --data, else the data set that the experiment was trained on."""
    settings = schema.load_experiment(experiment.config_path)
    return find_dataset(workspace, settings, find_data_root(workspace, experiment, settings, flag))


def find_ensemble_dataset(workspace: Workspace, ensemble: Ensemble, flag: str | None) -> Dataset:
    """The data set under --data, else the data set that the first experiment was trained on."""
    return find_experiment_dataset(workspace, ensemble.experiments[0], flag)


def choose_split(dataset: Dataset, split: str) -> Table:
    """The split of --split; auto: the test split if it exists, else the validation split."""
    if split == "auto":
        return dataset.split("test" if "test" in dataset.splits or "val" not in dataset.splits else "val")
    if split not in layout.SPLITS:
        raise ConfigError(f"--split {split}: known: auto, {', '.join(layout.SPLITS)}", hint="pass --split auto")
    return dataset.split(split)


def select_images(train: Table, assignment: FoldAssignment, chosen: np.ndarray | slice = slice(None)) -> Table:
    """The rows of the training images with the names of `chosen` rows of the fold assignment; all by default.

    Raises:
        ExperimentError: the data lacks an image that the experiment was trained on.
    """
    names = assignment.img_name[chosen]
    rows = train.rows(names)
    if missing := [f"{name} is not in it" for name in names[rows < 0].tolist()]:
        raise ExperimentError(
            f"{train.source} does not list the images that the experiment was trained on",
            problems=missing,
            hint="pass --data FOLDER with the data that it was trained on",
        )
    return train.take(rows)


def find_images(workspace: Workspace, names: Sequence[str], options: PredictOnnxOptions) -> Table:
    """The images of --images, else a split of the first experiment's data set."""
    if options.images is None:
        dataset = find_experiment_dataset(workspace, workspace.get_experiment(names[0]), options.data)
        return choose_split(dataset, options.split)
    return read_images(Path(options.images))


def read_images(path: Path) -> Table:
    """The images of a folder, or of a CSV."""
    if path.is_dir() or path.is_file():
        table = folders.list_folder(path) if path.is_dir() else tables.read_list(path)
        show_notes(table)
        return table
    raise DataError(f"--images {path} is neither a folder nor a file", hint="pass a folder of images, or a CSV")


def describe_images(table: Table) -> str:
    """A line for the terminal: the counts of training images."""
    assert table.target is not None
    fake = int(table.target.sum())
    groups = "" if table.group is None else f", {format_count(len(np.unique(table.group)), 'group')}"
    return (
        f"{format_count(len(table), 'training image')} ({len(table) - fake} real, {fake} "
        f"fake{groups}) in {table.folder}"
    )
