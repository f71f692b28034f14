"""Labels of videos, for images that were cut out of them: DFDC's metadata.json.

The file has an entry for each video: `{"abc.mp4": {"label": "FAKE", "original": "xyz.mp4"}}`. An image belongs to a
video if a folder on its path has the video's name (`abc/0.png`), or its own name starts with it (`abc_0.png`,
`abc-0.png`). A fake and its original are one group, because the same person is in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ffdi.config.schema import DataConfig
from ffdi.core import names
from ffdi.core.errors import DataError
from ffdi.data.labels import folders
from ffdi.data.labels.classes import Classes
from ffdi.data.labels.table import Table

SEPARATORS = re.compile(r"[_.-]")


@dataclass(frozen=True)
class Video:
    """label: 1 = fake; group: the name of the original video."""

    target: int
    group: str


def read_video_labels(name: str, folder: Path, labels: Path, config: DataConfig, problems: list[str]) -> Table:
    """Reads the labels of the images below a folder.

    Args:
        name: the split.
        folder: the image folder.
        labels: metadata.json.
        config: has the labels.
        problems: gets a line for each bad entry, and for each image of an unknown video.

    Raises:
        DataError: the file is not such a document, or there is no image.
    """
    videos = _read_videos(labels, config, problems)
    found = folders.list_images(folder, all_images=name == "test")
    if not found.images:
        raise DataError(f"no image in {folder}: {labels.name} names videos; cut their faces out first")
    rows = []
    for image in found.images:
        video = next((videos[part] for part in _list_candidates(image) if part in videos), None)
        if fault := names.find_fault(image):
            problems.append(f"{names.quote(image)} {fault}")
        elif video is None:
            problems.append(f"{names.quote(image)} belongs to no video of {labels.name}")
        else:
            rows.append((image, video.target, video.group))
    images, targets, groups = zip(*rows, strict=True) if rows else ((), (), ())
    table = Table(
        name,
        folder,
        np.array(images, dtype=str),
        np.array(targets, dtype=np.int64),
        np.array(groups, dtype=str) if name == "train" else None,
        labels,
    )
    return table.add_note(found.describe_passed_over())


def _read_videos(path: Path, config: DataConfig, problems: list[str]) -> dict[str, Video]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}", hint="name another file of labels") from None
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise DataError(f"{path} has no entry for each video", hint="name a file such as DFDC's metadata.json")
    classes, videos = Classes(config.labels), dict[str, Video]()
    for video, entry in content.items():
        label, original = str(entry.get("label", "")), entry.get("original") or video
        if (target := classes.read_label(label)) is None:
            what = classes.describe_fault(label) if label else "is missing"
            problems.append(f"{path.name}: the label '{label}' of {names.quote(video)} {what}")
        elif not isinstance(original, str) or names.find_fault(original):
            problems.append(f"{path.name}: the original of {names.quote(video)} is no name of a video")
        else:
            videos[PurePosixPath(video).stem] = Video(target, PurePosixPath(original).stem)
    return videos


def _list_candidates(image: str) -> Iterator[str]:
    """Names of videos that an image may belong to: its folders, inner ones first, then the starts of its own name."""
    *parents, last = image.split("/")
    yield from reversed(parents)
    stem = PurePosixPath(last).stem
    yield stem
    for place in reversed([found.start() for found in SEPARATORS.finditer(stem)]):
        yield stem[:place]
