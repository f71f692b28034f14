"""Finds the files of a competition, in all known layouts, and reads its splits."""

from __future__ import annotations

import gc
import glob
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ffdi.config.schema import DataConfig, SplitFiles
from ffdi.core import names
from ffdi.core.errors import DataError
from ffdi.data.labels import folders, landmarks, metadata
from ffdi.data.labels.classes import FOLDERS as FOLDER_CLASSES
from ffdi.data.labels.classes import format_labels
from ffdi.data.labels.columns import read_columns, read_header
from ffdi.data.labels.table import MEND, Table, read_labels
from ffdi.data.labels.table import (
    SPLITS as SPLITS,
)
from ffdi.data.labels.videos import read_video_labels

FOLDERS = {
    "train": ("trainset", "train"),
    "val": ("valset", "val", "valid", "validation"),
    "test": ("testset*", "test", "testset1_seen"),
}
"""Names of each split's image folder; the star matches any ending."""
PHASES = ("phase1", "phase2")
"""Folders that may hold the splits of a competition."""
ENDINGS = (".txt", ".csv", ".txt.csv")
TEMPLATES = ("prediction.txt", "prediction.txt.csv", "prediction.csv", "sample_submission.csv", "sampleSubmission.csv",
             "submission_format.csv")  # fmt: skip
NAMED_KINDS = 8
"""Kinds of fakes that a line in the terminal names."""
GROUPS_FILE = "groups.csv"
LANDMARKS_FILE = "landmarks.csv"


def list_patterns(config: DataConfig) -> list[str]:
    """Patterns of the names at the top of a data folder: those of the config, and those that need no key.

    A file outside the data folder, which a key names by an absolute path, has none.
    """
    splits = [getattr(config, name) for name in SPLITS]
    named = [config.groups_file, config.landmarks_file, config.template]
    named += [path for split in splits for path in (split.folder, split.labels)]
    return [
        *dict.fromkeys(glob.escape(Path(path).parts[0]) for path in named if path and not Path(path).is_absolute()),
        *(pattern for split in FOLDERS.values() for pattern in split),
        *(f"{name}*{ending}" for name in SPLITS for ending in (".txt", ".csv")),
        *PHASES,
        *(GROUPS_FILE, LANDMARKS_FILE, *TEMPLATES),
    ]


@dataclass(frozen=True)
class Dataset:
    """The splits of a competition that were found, and its submission template."""

    root: Path
    splits: dict[str, Table]
    template: Path | None
    config: DataConfig

    def split(self, name: str) -> Table:
        """The table of a split.

        Raises:
            DataError: this data set does not have the split.
        """
        if name in self.splits:
            return self.splits[name]
        raise DataError(
            f"no {name} images under {self.root}: looked for {_describe_searched(name)}",
            hint="pass --data FOLDER with the folder that holds the label files, "
            f"or name the files with data.{name}.folder and data.{name}.labels in config.toml",
        )


def find_dataset(root: Path, config: DataConfig, *, with_landmarks: bool = True) -> Dataset:
    """Finds and reads every split under `root`, or under its `phase1/` and `phase2/`.

    Args:
        root: the data folder.
        config: paths and columns.
        with_landmarks: whether to read the landmark file, if there is one.

    Raises:
        DataError: the folder does not exist, there is no split, several files match, or rows are bad; the message has
            the bad rows of all files.
    """
    if not root.is_dir():
        raise DataError(f"the data folder {root} does not exist", hint="pass --data FOLDER")
    problems: list[str] = []
    splits = {}
    for name in SPLITS:
        found: list[str] = []
        with _pause_garbage_collection():
            table = _read_split(name, root, config, found)
        problems += found
        if table is not None:
            splits[name] = table
    if "train" in splits:
        splits["train"] = _add_groups(splits["train"], root, config, problems)
        splits["train"] = _add_kinds_and_pairs(splits["train"], root, config, problems)
        if with_landmarks:
            splits["train"] = _add_landmarks(splits["train"], root, config, problems)
    if problems:
        raise DataError(f"bad rows in the label files under {root}: {len(problems)}", problems=problems, hint=MEND)
    dataset = Dataset(root, splits, _find_template(root, config), config)
    if not splits:
        dataset.split("train")
    return dataset


@contextmanager
def _pause_garbage_collection() -> Iterator[None]:
    """Stops the garbage collector, which takes a third of the time with half a million rows."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read_split(name: str, root: Path, config: DataConfig, problems: list[str]) -> Table | None:
    files: SplitFiles = getattr(config, name)
    place = _find_place(name, root, files)
    if place is None:
        return None
    config = config.for_split(name)
    labels = _find_label_file(name, place, files)
    folder = _find_folder(name, place, labels, files)
    if labels is not None:
        read = read_video_labels if labels.suffix.lower() == ".json" else read_labels
        return read(name, folder, labels, config, problems)
    found = folders.list_images(folder, all_images=name != "train")
    if (table := folders.read_class_folders(name, folder, found, config)) is not None:
        return table
    if name == "train":
        classes = ", ".join(config.labels or FOLDER_CLASSES)
        hint = "name the label file with data.train.labels in config.toml"
        if found.subfolders:
            hint += f", or the labels of its folders: {format_labels(dict.fromkeys(found.subfolders))}"
        raise DataError(
            f"{folder} has images but no labels: looked for {_describe_searched(name)} next to it and for class "
            f"folders {classes} in it",
            hint=hint,
        )
    return folders.make_folder_table(name, folder, found)


def _find_place(name: str, root: Path, files: SplitFiles) -> Path | None:
    """The folder of the split: root, root/phase1 or root/phase2; None if there is no such split."""
    if files.folder is not None or files.labels is not None:
        return root
    for place in (root, *(root / phase for phase in PHASES)):
        if place.is_dir() and (_list_folders(name, place) or _list_label_files(name, place)):
            return place
    return None


def _list_folders(name: str, place: Path) -> list[Path]:
    matches = {path for pattern in FOLDERS[name] for path in place.glob(pattern) if path.is_dir()}
    return sorted(matches)


def _list_label_files(name: str, place: Path) -> list[Path]:
    """The label files of a split; lists without labels only if there is no file with labels."""
    stems = [name, *(folder.name for folder in _list_folders(name, place)), *FOLDERS[name]]
    for suffix in ("_label", "_nolabel", ""):
        candidates = {place / f"{stem}{suffix}{ending}" for stem in stems for ending in ENDINGS}
        found = sorted(path for path in candidates if path.is_file())
        if found:
            return found
    return []


def _find_label_file(name: str, place: Path, files: SplitFiles) -> Path | None:
    if files.labels is not None:
        return _check_named(place / files.labels, f"data.{name}.labels")
    if files.folder is not None and not _list_label_files(name, place):
        return None
    return _choose_only(_list_label_files(name, place), f"label files of the {name} split", f"data.{name}.labels")


def _find_folder(name: str, place: Path, labels: Path | None, files: SplitFiles) -> Path:
    if files.folder is not None:
        return _check_named(place / files.folder, f"data.{name}.folder", Path.is_dir)
    found = _list_folders(name, place)
    if labels is not None and files.labels is not None and not found:
        return labels.parent
    if labels is not None:
        stem = labels.name.split(".")[0].removesuffix("_label").removesuffix("_nolabel")
        found = [path for path in found if path.name == stem] or found
    folder = _choose_only(found, f"folders of {name} images", f"data.{name}.folder")
    if folder is None:
        raise DataError(
            f"{labels} lists {name} images, but their folder is missing: looked for "
            f"{', '.join(f'{pattern}/' for pattern in FOLDERS[name])} in {place}",
            hint=f"name it with data.{name}.folder in config.toml",
        )
    return folder


def _check_named(path: Path, key: str, exists: Callable[[Path], bool] = Path.is_file) -> Path:
    if not exists(path):
        raise DataError(f"{key} names {path}, which does not exist", hint=f"correct {key} in config.toml, or remove it")
    return path


def _choose_only(found: list[Path], what: str, key: str) -> Path | None:
    if len(found) <= 1:
        return found[0] if found else None
    names = ", ".join(path.name for path in found)
    raise DataError(f"several {what} in {found[0].parent}: {names}", hint=f"choose one with {key} in config.toml")


def _add_groups(train: Table, root: Path, config: DataConfig, problems: list[str]) -> Table:
    """Joins the groups file by image name, where there is one."""
    path = root / (config.groups_file or GROUPS_FILE)
    if config.groups_file is not None:
        _check_named(path, "data.groups_file")
    if train.group is not None or not path.is_file():
        return train
    header = read_header(path, config)
    wanted = (header.image or config.image_column, config.group_column or "group")
    images, group = train.index_names(config), dict[str, str]()
    for line, (field, name) in read_columns(path, header, wanted, problems):
        image = images.find(field) or field.strip(names.BLANKS)
        if fault := names.find_fault(name):
            problems.append(f"{path.name} line {line}: the group {names.quote(name)} {fault}")
        elif group.setdefault(image, name) != name:
            problems.append(
                f"{path.name} line {line}: {names.quote(image)} is in group {names.quote(group[image])} already"
            )
    missing = [image for image in train.img_name.tolist() if not group.get(image)]
    known = names.normalize_names(group if missing else ())
    problems += [
        f"{path.name}: no group for {names.quote(image)} of {train.source.name}{names.describe_lookalike(image, known)}"
        for image in missing
    ]
    return replace(train, group=np.array([group.get(image, "") for image in train.img_name.tolist()], dtype=str))


def _add_kinds_and_pairs(train: Table, root: Path, config: DataConfig, problems: list[str]) -> Table:
    """Adds kinds and pairs of fakes, if there are columns of them; class folders may have given kinds before."""
    if not problems:  # a bad row of the label file would be reported twice
        if config.kind_column is not None:
            train = replace(train, kind=metadata.read_kinds(root, train, config, problems))
        if config.pair_column is not None:
            train = replace(train, pair=metadata.read_pairs(root, train, config, problems))
    return train.add_note(_describe_kinds(train))


def _describe_kinds(train: Table) -> str:
    """The kinds of fakes for the terminal; empty without kinds."""
    if train.kind is None or train.target is None:
        return ""
    kinds, counts = np.unique(train.kind[train.target == 1], return_counts=True)
    named = [f"{kind or 'no kind'} {count}" for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)]
    more = f", and {len(named) - NAMED_KINDS} more" if len(named) > NAMED_KINDS else ""
    return f"kinds of fakes: {', '.join(named[:NAMED_KINDS])}{more}"


def get_landmarks_path(root: Path, config: DataConfig) -> Path:
    """The landmark file of a data folder, which need not exist."""
    return root / (config.landmarks_file or LANDMARKS_FILE)


def _add_landmarks(train: Table, root: Path, config: DataConfig, problems: list[str]) -> Table:
    """Adds the landmarks by image name, if there is a landmark file."""
    path = get_landmarks_path(root, config)
    if config.landmarks_file is not None:
        _check_named(path, "data.landmarks_file")
    if not path.is_file():
        return train
    return replace(train, landmarks=landmarks.read_landmarks(path, train, config, problems))


def _find_template(root: Path, config: DataConfig) -> Path | None:
    if config.template is not None:
        return _check_named(root / config.template, "data.template")
    places = (root, *(root / phase for phase in reversed(PHASES)))
    return next((place / name for place in places for name in TEMPLATES if (place / name).is_file()), None)


def _describe_searched(name: str) -> str:
    folders = [f"{pattern}/" for pattern in FOLDERS[name]]
    return f"{', '.join(folders)} with {name}_label.txt, {FOLDERS[name][0].rstrip('*')}_label.txt (or .csv)"
