"""Where a verb's images come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.core import console
from ffdi.core.errors import ConfigError, DataError, ExperimentError
from ffdi.data.images import cache
from ffdi.data.images.cache import Store
from ffdi.data.images.decode import ResizePolicy
from ffdi.data.labels import layout
from ffdi.data.labels import table as tables
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.table import Table
from ffdi.data.splits.folds import FoldAssignment
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.ensemble.group import Ensemble

DEMO = "data/quickstart"
"""The data root that is made on first use."""


def data_root(workspace: Workspace, settings: Config, flag: str | None) -> Path:
    """The folder with the label files; the demonstration competition is made on first use."""
    if flag:
        return Path(flag)
    if settings.data.root is None:
        raise ConfigError("no data: config.toml has no data.root", hint="pass --data FOLDER")
    if settings.data.root == DEMO:
        from ffdi.demo import competition

        root = workspace.demo_folder
        if not competition.is_made(root):
            console.say(f"making the demonstration competition in {root}")
            competition.make(root)
        return root
    return workspace.root / settings.data.root


def find_dataset(workspace: Workspace, settings: Config, root: Path) -> Dataset:
    """The data set under a folder, read from its cache where there is one."""
    return cache.attach(layout.find(root, settings.data), store(workspace, settings, root))


def store(workspace: Workspace, settings: Config, root: Path) -> Store:
    """The cache of a data folder that an experiment reads, there or not."""
    framing = packed_framing(settings)
    return Store(workspace.cache_folder(root, cache.kind(framing)), framing)


def packed_framing(settings: Config) -> ResizePolicy | None:
    """What images are brought to before they are packed, and before recipes work on them; None leaves them alone.

    Raises:
        ConfigError: it cannot be done once for all epochs.
    """
    if not settings.cache.decoded:
        return None
    if settings.model.resize != "squash":
        raise ConfigError(
            f"cache.decoded = true and model.resize = '{settings.model.resize}': only whole images can be kept in a "
            "network's size",
            hint="set model.resize = 'squash', or cache.decoded = false, in config.toml",
        )
    return ResizePolicy.of(settings.model)


def describe_cache(dataset: Dataset) -> str | None:
    """What a person is told of a data set's cache; None where there is none."""
    tables = dataset.splits.values()
    total, there = sum(map(len, tables)), sum(len(table) - len(cache.missing(table)) for table in tables)
    stores = {rows.store.folder for table in tables if (rows := cache.rows_of(table)) is not None}
    if not there:
        return None
    rest = "" if there == total else f"; the other {total - there} are not in it or were changed, see invoke cache"
    return f"cache: {there} of {total} images in {', '.join(map(str, stores))}{rest}"


def of_experiment(workspace: Workspace, experiment: Experiment, flag: str | None) -> Dataset:
    """The data set that an experiment was trained on, or the one under --data."""
    root = Path(flag) if flag else experiment.data_root()
    return find_dataset(workspace, schema.load(experiment.config_path), root)


def of_blend(workspace: Workspace, ensemble: Ensemble, flag: str | None) -> Dataset:
    """The data set that the first experiment was trained on, or the one under --data."""
    return of_experiment(workspace, ensemble.experiments[0], flag)


def predicted_split(found: Dataset, asked: str) -> Table:
    """The test split where there is one, else (phase 1) the validation split."""
    if asked == "auto":
        return found.split("test" if "test" in found.splits or "val" not in found.splits else "val")
    if asked not in layout.SPLITS:
        raise ConfigError(f"--split {asked}: known: auto, {', '.join(layout.SPLITS)}", hint="pass --split auto")
    return found.split(asked)


def locate(train: Table, deal: FoldAssignment, chosen: np.ndarray) -> Table:
    """The chosen images among the training images.

    Raises:
        ExperimentError: one is not there any more.
    """
    place = {name: row for row, name in enumerate(train.img_name.tolist())}
    names = deal.img_name[chosen].tolist()
    if missing := [f"{name} is not in it" for name in names if name not in place]:
        raise ExperimentError(
            f"{train.source} does not list the images that the experiment was trained on",
            problems=missing,
            hint="pass --data FOLDER with the data that it was trained on",
        )
    return train.take(np.array([place[name] for name in names]))


def images(workspace: Workspace, names: Sequence[str], asked: str | None, data: str | None, split: str) -> Table:
    """The images that a person names, else a split of the first experiment's data set."""
    if asked is None:
        return predicted_split(of_experiment(workspace, workspace.experiment(names[0]), data), split)
    path = Path(asked)
    if path.is_dir():
        return tables.in_folder(path)
    if path.is_file():
        return tables.listed(path)
    raise DataError(f"--images {path} is neither a folder nor a file", hint="pass a folder of images, or a CSV")


def counts(table: Table) -> str:
    """How many training images there are, in words."""
    assert table.target is not None
    fake = int(table.target.sum())
    groups = "" if table.group is None else f", {len(np.unique(table.group))} groups"
    return f"{len(table)} training images ({len(table) - fake} real, {fake} fake{groups}) in {table.folder}"
