"""Finds the landmarks of the faces in all training images, for self-blending."""

from __future__ import annotations

import csv
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ffdi import __version__
from ffdi.commands.shared import changes, sources
from ffdi.commands.shared.options import LandmarksOptions
from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.config.variants import Keys
from ffdi.core import console, files, links, machine, manifests, names
from ffdi.core.errors import ConfigError, DataError, ExperimentError, format_count
from ffdi.data.labels import landmarks, layout
from ffdi.data.labels.table import Table
from ffdi.experiments.experiment import lock_folder
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.faces.finder import FaceFinder

SHOWN = 5
"""Images without a face that are named on the screen; the file has the presence of all."""
FEW = 0.5
"""With fewer faces than this share of the images, these may be no crops of faces."""
WHERE = "docs/data.md#landmarks has the commands that get it"


class Places(NamedTuple):
    """The files to write: the landmarks, and the record of how they were made."""

    points: Path
    record: Path


class Faces(NamedTuple):
    """What was found in each of N images.

    Attributes:
        presence: float64 [N], NaN in strips.
        found: bool [N]: the presence is high enough, and the points can be those of a face.
    """

    presence: np.ndarray
    found: np.ndarray


def run(workspace: Workspace, options: LandmarksOptions) -> None:
    """Writes the points of the face in each training image, and how sure the network is that it is one."""
    experiment = workspace.get_experiment(options.experiment)
    settings = schema.load_experiment(experiment.config_path)
    root = sources.find_data_root(workspace, experiment, settings, options.data)
    train = sources.find_dataset(workspace, settings, root, with_landmarks=False).split("train")
    places = _find_places(root, settings, options.output)
    _check_replaceable(places, options.restart)
    _check_writable(places.points, options.output)
    if options.model is None:
        raise ConfigError(
            "no face mesh was given",
            hint=f"pass --model face_landmark.tflite, from the npm package @mediapipe/face_mesh; {WHERE}",
        )
    console.title(f"landmarks: {sources.describe_images(train)}")
    with lock_folder(
        workspace.get_cache_folder(root, "landmarks"), f"finds landmarks in {root}", "wait until it has found them"
    ):
        files.remove_leftovers_next_to(places.points, [place.name for place in places])
        _write(places, train, settings.data.image_column, options)
    console.written(*places, about=f" ({format_count(len(train), 'row')})")
    console.advise(changes.suggest(experiment, _list_keys(root, settings, places.points)))


def _find_places(root: Path, settings: Config, output: str | None) -> Places:
    """The landmark file that a training reads, or --output; and the record next to it."""
    path = Path(output) if output else layout.get_landmarks_path(root, settings.data)
    if output and (fault := names.find_fault(path.name)):
        raise ConfigError(f"--output {output}: its name {fault}", hint="pass --output landmarks.csv")
    if path.suffix == ".json":
        raise ConfigError(f"{path}: landmarks are a CSV", hint="pass --output landmarks.csv")
    folder = links.resolve_root(path.parent)
    return Places(links.join(folder, path.name), links.join(folder, path.with_suffix(".json").name))


def _check_replaceable(places: Places, restart: bool) -> None:
    """Refuses to replace files that this command has not written, or that were changed since.

    Raises:
        ExperimentError: names the file.
    """
    if restart:
        return
    written: dict[str, object] = {}
    if places.record.exists():
        with suppress(ExperimentError):  # not a record
            written = manifests.read_manifest(places.record, {"mesh": str, "sha256": str})
        if not written:
            _refuse_to_replace(places.record)
    if places.points.is_file() and written.get("sha256") != manifests.hash_file(places.points):
        _refuse_to_replace(places.points)


def _refuse_to_replace(path: Path) -> None:
    raise ExperimentError(
        f"{path} exists, and `invoke landmarks` did not write it, or it was changed since",
        hint="pass --output with another file, or --restart to replace it",
    )


def _check_writable(path: Path, output: str | None) -> None:
    """Refuses a path that cannot be written; a data folder may be read-only.

    Raises:
        ExperimentError: it is a folder, or cannot be written.
    """
    try:
        files.check_writable(path)
    except ExperimentError as error:
        if output:
            raise
        name = json.dumps(str(Path.cwd() / layout.LANDMARKS_FILE), ensure_ascii=False)
        raise ExperimentError(
            error.what,
            hint=f"pass --output {layout.LANDMARKS_FILE}, and set data.landmarks_file = {name} in config.toml: a path "
            "from the data folder, or an absolute one",
        ) from None


def _write(places: Places, train: Table, image_column: str, options: LandmarksOptions) -> None:
    """Finds all faces, and publishes both files if every image can be read."""
    from ffdi.faces import finder

    assert options.model is not None
    model, detector = Path(options.model), Path(options.detector) if options.detector else None
    threads = machine.count_cores()
    opened = finder.open_finder(model, detector, threads)
    first = f"first crop by {detector.name}" if detector else "no detector: each image is taken for the crop of a face"
    console.say(f"networks: {model.name}, {first}; {format_count(threads, 'thread')}")
    with files.publish_together(places.points.parent, places.points.name) as new:
        faces = _write_points(places, new / places.points.name, train, image_column, opened, threads, options.presence)
        record = {
            "mesh": manifests.hash_file(model),
            "detector": manifests.hash_file(detector) if detector else None,
            "least presence": options.presence,
            "rows": len(train),
            "faces": int(faces.found.sum()),
            "sha256": manifests.hash_file(new / places.points.name),
            "version": __version__,
        }
        manifests.write_manifest(new / places.record.name, record)
    _show_faces(train, faces, detector is not None)


def _write_points(
    places: Places, path: Path, train: Table, image_column: str, opened: FaceFinder, threads: int, least: float
) -> Faces:
    """Writes the rows one by one, so that memory hardly grows with their number.

    Raises:
        DataError: images cannot be read; the message has all of them.
    """
    from ffdi.faces import finder, networks

    faults, faces = list[str](), Faces(np.full(len(train), np.nan), np.zeros(len(train), bool))
    start = time.perf_counter()
    with (
        files.explain_write_errors(places.points),
        path.open("w", encoding="utf-8", newline="") as file,
        console.bar("finding landmarks", len(train), unit="images") as bar,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(landmarks.list_columns(image_column, networks.POINTS))
        for row, face, fault in finder.find_faces(train, opened, threads):
            faults += [fault] if fault else []
            faces.presence[row] = face.presence
            faces.found[row] = face.presence >= least and not landmarks.find_points_fault(face.points)
            points = face.points if faces.found[row] else finder.NOTHING.points
            writer.writerow(landmarks.format_row(str(train.img_name[row]), face.presence, points))
            bar.advance()
    if faults:
        raise DataError(
            f"{len(faults)} of {format_count(len(train), 'image')} cannot be used; nothing was written",
            problems=faults,
            hint=f"replace these files or take them out of {train.source}, and run the same command again",
        )
    seconds = time.perf_counter() - start
    console.say(
        f"looked at: {format_count(len(train), 'image')} in {seconds:.1f} s, {len(train) / seconds:.1f} images/s"
    )
    return faces


def _show_faces(train: Table, faces: Faces, detected: bool) -> None:
    """Says how many images of each class have a face, and names some that have none."""
    assert train.target is not None
    counts = [
        f"{faces.found[train.target == target].sum()} of {(train.target == target).sum()} {name}"
        for target, name in enumerate(("real", "fake"))
    ]
    console.say(f"found: {format_count(faces.found.sum(), 'face')}, in {' and '.join(counts)} images")
    missing = np.flatnonzero(~faces.found)
    if not len(missing):
        return
    named = [f"{names.quote(str(train.img_name[row]))} ({_describe(faces.presence[row])})" for row in missing[:SHOWN]]
    more = f", and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    console.say(f"no face: {', '.join(named)}{more}; pseudo-fakes of real ones among these get ovals")
    if faces.found.mean() < FEW and not detected:
        console.warn("few images have a face: if they are not crops of faces, pass --detector")


def _describe(presence: float) -> str:
    """The presence of a face that was not found."""
    return "a strip" if np.isnan(presence) else f"presence {presence:.2f}"


def _list_keys(root: Path, settings: Config, path: Path) -> Keys:
    """What a training needs to use the file."""
    keys: Keys = {}
    if layout.get_landmarks_path(root, settings.data).resolve() != path:
        keys["data.landmarks_file"] = str(path)
    if not settings.pseudo_fakes.needs_landmarks:
        fakes = settings.pseudo_fakes
        keys["pseudo_fakes.fraction"] = fakes.fraction or 0.25
        keys["pseudo_fakes.methods"] = [*(fakes.methods if fakes.fraction else ()), "self_blend"]
    return keys
