"""Label tables: the images of a split with their labels and groups; a bad row is refused with its file and line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ffdi.config.schema import DataConfig
from ffdi.core import names
from ffdi.core.errors import DataError
from ffdi.data.labels.classes import Classes
from ffdi.data.labels.columns import IMAGE_COLUMNS, read_columns, read_header
from ffdi.data.labels.image_names import FolderImages, ListedImages, has_image_ending

SPLITS = ("train", "val", "test")
MEND = "mend these rows and run the same command again; nothing was written"


class StoredRows(Protocol):
    """A table's rows in an image cache, implemented by `ffdi.data.images.cache.CachedRows`."""

    def take(self, index: np.ndarray) -> StoredRows:
        """The rows `index` (int [M]), in that order."""

    def extend(self, count: int) -> StoredRows:
        """The rows, and behind them `count` rows that are not in the cache."""


@dataclass(frozen=True)
class Table:
    """The images of one split, in the order of its label file.

    Attributes:
        split: 'train', 'val', 'test', or the name of another list of images.
        folder: the folder that `img_name` is relative to.
        img_name: str [N], unique.
        target: int64 [N], 1 = fake, and -1 for the images of `add_unlabelled`; None without labels.
        group: str [N]; images of one group are always in the same fold. None without groups.
        kind: str [N], the kind of each fake, such as its generator; '' for real images and unknown kinds. None without
            kinds.
        source: the label file, or the image folder if there is no label file.
        listed: str [N], the names as the label file spells them; None if it spells them as `img_name`.
        pair: str [N], the img_name of the real image that each fake was made from; '' for real images and where it is
            unknown. None without pairs.
        landmarks: float32 [N, L, 2], points of each face in parts of width and height, NaN for unknown ones; None
            without landmarks.
        reconstruction: str [N], the file with the reconstruction of each real image by an autoencoder, '' for fakes;
            None if the training needs none.
        soft_logit: float32 [N], the logit of other networks for each image, as a soft target, NaN where there is none:
            the teachers' out-of-fold logits, or pseudo-labels. None if the training has no soft targets.
        stored: the rows in the image cache; None if the table is not attached to one.
        notes: lines for the terminal: how the files were read, and which were passed over.
    """

    split: str
    folder: Path
    img_name: np.ndarray
    target: np.ndarray | None
    group: np.ndarray | None
    source: Path
    listed: np.ndarray | None = None
    kind: np.ndarray | None = None
    pair: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    reconstruction: np.ndarray | None = None
    soft_logit: np.ndarray | None = None
    stored: StoredRows | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.img_name)

    def path(self, index: int) -> Path:
        return self.folder / str(self.img_name[index])

    def add_note(self, note: str) -> Table:
        """The table with one more line for the terminal; the same table if the line is empty."""
        return replace(self, notes=(*self.notes, note)) if note else self

    def index_names(self, config: DataConfig) -> ListedImages:
        """The images, for tables that name them in other ways."""
        listed = self.img_name if self.listed is None else self.listed
        return ListedImages(self.img_name.tolist(), listed.tolist(), self.folder.name, config.prefix)

    def add_unlabelled(self, others: Table) -> Table:
        """The rows, and behind them the images of another folder with their soft targets, as more training images."""
        assert self.target is not None
        assert others.soft_logit is not None
        more = len(others)
        soft = np.full(len(self), np.nan, np.float32) if self.soft_logit is None else self.soft_logit
        marks, made = self.landmarks, self.reconstruction
        return replace(
            self,
            img_name=np.concatenate([self.img_name, [str(others.path(row)) for row in range(more)]]),
            target=np.concatenate([self.target, np.full(more, -1)]),
            group=None,
            listed=None,
            kind=None,
            pair=None,
            landmarks=None
            if marks is None
            else np.concatenate([marks, np.full((more, *marks.shape[1:]), np.nan, marks.dtype)]),
            reconstruction=None if made is None else np.concatenate([made, [""] * more]),
            soft_logit=np.concatenate([soft, others.soft_logit]),
            stored=None if self.stored is None else self.stored.extend(more),
        )

    @property
    def has_both_classes(self) -> bool:
        """Whether there are labels of both classes, which the metrics need."""
        return self.target is not None and len(np.unique(self.target)) == 2

    def rows(self, names: np.ndarray) -> np.ndarray:
        """int64 [M]: the row of each image name (str [M]); -1 if the table does not have it."""
        return find_rows(self.img_name, names)

    def take(self, index: np.ndarray) -> Table:
        """The rows `index` (int [M]), in that order."""
        return replace(
            self,
            img_name=self.img_name[index],
            target=None if self.target is None else self.target[index],
            group=None if self.group is None else self.group[index],
            listed=None if self.listed is None else self.listed[index],
            kind=None if self.kind is None else self.kind[index],
            pair=None if self.pair is None else self.pair[index],
            landmarks=None if self.landmarks is None else self.landmarks[index],
            reconstruction=None if self.reconstruction is None else self.reconstruction[index],
            soft_logit=None if self.soft_logit is None else self.soft_logit[index],
            stored=None if self.stored is None else self.stored.take(index),
        )


def find_rows(img_name: np.ndarray, names: np.ndarray) -> np.ndarray:
    """int64 [M]: the index in `img_name` (str [N], unique) of each of `names` (str [M]); -1 for unknown names."""
    rows = {name: row for row, name in enumerate(img_name.tolist())}
    return np.array([rows.get(name, -1) for name in names.tolist()], dtype=np.int64)


def read_list(file: Path) -> Table:
    """Reads a CSV of image names. The images are in the CSV's folder, or next to it in a folder with the CSV's name.

    The images of `testset1_seen_nolabel.txt` may be in `testset1_seen/`.

    Raises:
        DataError: there is no column of images, or rows are bad; the message has all bad rows.
    """
    stem = file.name.split(".")[0]
    beside = [file.parent / stem, file.parent / stem.removesuffix("_label").removesuffix("_nolabel")]
    places = [FolderImages(folder) for folder in (file.parent, *beside) if folder.is_dir()]
    problems: list[str] = []
    name_column = f"name a column {IMAGE_COLUMNS[0]}"
    try:
        header = read_header(file, DataConfig(), lambda field: any(place.find(field) for place in places))
    except DataError as error:
        if "config.toml" not in error.hint:
            raise
        raise DataError(error.what, problems=error.problems, hint=f"{name_column} only") from None
    if header.image is None:
        raise DataError(
            f"{file} line 1: no column of images; the header is '{','.join(header.columns)}'", hint=name_column
        )
    rows = list(read_columns(file, header, (header.image,), problems))
    first = [name for _, (name,) in rows[:50]]
    place = max(places, key=lambda place: sum(place.find(name) is not None for name in first))
    unlabelled: list[Row] = [(line, name, None, None) for line, (name,) in rows]
    table = _make_table("images", place, file, unlabelled, DataConfig(), problems)
    if problems:
        raise DataError(f"bad rows in {file}: {len(problems)}", problems=problems, hint=MEND)
    return table.add_note(header.describe(file.name))


def read_labels(name: str, folder: Path, labels: Path, config: DataConfig, problems: list[str]) -> Table:
    """Reads a label file; the training split needs a label column, other splits do not.

    Args:
        name: the split.
        folder: the image folder.
        labels: the label file.
        config: has the names of the columns and the labels.
        problems: gets a line for each bad row; the table has the good rows.

    Raises:
        DataError: the file is not a CSV, or a column is missing.
    """
    images, classes = FolderImages(folder, config.prefix), Classes(config.labels)
    header = read_header(
        labels,
        config,
        is_image=lambda field: images.find(field) is not None,
        is_label=lambda field: classes.read_label(field) is not None,
    )
    wanted = [header.image or config.image_column]
    # competitions fill a column `label` of their test list with zeros: it has to be named by its key
    target = header.find_target(labels, config, usual=name != "test")
    if target is None and name == "train":
        target = config.target_column
    group = config.group_column if name == "train" and config.groups_file is None else None
    wanted += [column for column in (target, group) if column is not None]
    rows: list[Row] = []
    for line, (image, *others) in read_columns(labels, header, wanted, problems):
        rows.append((line, image, others[0] if target is not None else None, others[-1] if group is not None else None))
    table = _make_table(name, images, labels, rows, config, problems)
    return table.add_note(header.describe(labels.name, target))


Row = tuple[int, str, str | None, str | None]
"""Line, img_name, label and group, as in the file."""


def _make_table(
    name: str, images: FolderImages, source: Path, rows: list[Row], config: DataConfig, problems: list[str]
) -> Table:
    """Makes a table of the good rows; `problems` gets a line for each bad row."""
    classes, first_line = Classes(config.labels), dict[str, int]()
    good: list[tuple[str, str, int | None, str | None]] = []
    stems = not any(has_image_ending(field) for _, field, _, _ in rows)
    for line, field, label, group in rows:
        listed = field.strip(names.BLANKS)
        image = images.find(field, stems=stems)
        plain = names.normalize_path(image or listed)
        target = None if label is None else classes.read_label(label)
        if fault := _find_row_fault(image or listed, group, first_line.get(plain)):
            problems.append(f"{source.name} line {line}: {fault}")
        elif label is not None and target is None:
            what = f"label '{label}' of {names.quote(listed)} {classes.describe_fault(label)}"
            problems.append(f"{source.name} line {line}: {what}")
        elif image is None:
            problems.append(f"{source.name} line {line}: {_explain_missing(listed, images, config)}")
        else:
            good.append((image, image if image == field else listed, target, group))
        first_line.setdefault(plain, line)
    if not rows and not problems:
        problems.append(f"{source.name}: no image is listed")
    found, spelled, targets, groups = zip(*good, strict=True) if good else ((), (), (), ())
    return Table(
        name,
        images.folder,
        np.array(found, dtype=str),
        None if None in targets else np.array(targets, dtype=np.int64),
        None if None in groups else np.array(groups, dtype=str),
        source,
        None if spelled == found else np.array(spelled, dtype=str),
    )


def _find_row_fault(image: str, group: str | None, before: int | None) -> str:
    """What is wrong with a row; empty if nothing is. `before` is an earlier line with the same image."""
    if not image:
        return "the image name is empty"
    if fault := names.find_fault(image):
        return f"the image name {names.quote(image)} {fault}"
    if before is not None:
        return f"{names.quote(image)} is on line {before} already"
    if group == "":
        return f"{names.quote(image)} has no group"
    if group is not None and (fault := names.find_fault(group)):
        return f"the group {names.quote(group)} of {names.quote(image)} {fault}"
    return ""


def _explain_missing(listed: str, images: FolderImages, config: DataConfig) -> str:
    """Why a row names no image."""
    folder = f"{images.folder.name}/"
    if names.is_absolute(listed):
        advice = "is not below data.prefix" if config.prefix else "is an absolute path: name its start with data.prefix"
        return f"{names.quote(listed)} {advice}"
    if names.is_outside(listed):
        return f"{names.quote(listed)} leaves the folder {folder}"
    if alike := images.list_by_stem(listed):
        return f"{names.quote(listed)} has no ending; it may be {' or '.join(map(names.quote, alike))}"
    return f"{names.quote(listed)} is not in {folder}{images.describe_lookalike(listed)}"
