"""The scan of a data set, with its progress in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from ffdi.config.schema import Config
from ffdi.core import console, machine, manifests
from ffdi.data.inspection import doctor, duplicate_groups, reencoded
from ffdi.data.inspection.doctor import Diagnosis
from ffdi.data.inspection.duplicate_groups import DuplicateGroups, Search
from ffdi.data.inspection.reencoded import has_enough
from ffdi.data.inspection.scan import ScanResult, scan_images
from ffdi.data.inspection.scan_store import ScanStore
from ffdi.data.labels import folders
from ffdi.data.labels.layout import Dataset
from ffdi.data.labels.table import Table
from ffdi.data.splits import image_list
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

Result = TypeVar("Result")


def scan_dataset(workspace: Workspace, dataset: Dataset, *, reencode: bool = False) -> Diagnosis:
    """Scans the images that were not scanned before, and compares all images.

    Args:
        workspace: its store has the results of earlier scans.
        dataset: all splits.
        reencode: whether to measure shortcuts before and after all images are encoded alike.

    Raises:
        DataError: with `reencode`, no split has enough images of both classes.
    """
    if reencode:
        reencoded.check_labels(dataset.splits)
    for line in folders.describe_unlisted(dataset.splits.values()):
        console.say(line)
    diagnosis = doctor.diagnose(dataset.root, *scan_tables(workspace, dataset.splits))
    if reencode:
        diagnosis = measure_reencoded(diagnosis, machine.count_cores())
    return diagnosis


def write_findings(experiment: Experiment, diagnosis: Diagnosis, listed: str, *, restart: bool = False) -> Path:
    """Writes the findings of images: doctor.json, or doctor_other.json if the experiment is trained on other images.

    Args:
        experiment: its folder gets the file.
        diagnosis: of the images.
        listed: of `format_image_list`.
        restart: whether the experiment is to be trained again, on these images.
    """
    digest = manifests.hash_text(listed)
    path = experiment.doctor_path if restart else experiment.get_findings_path(digest)
    manifests.write_manifest(path, {"image_list": digest, **diagnosis.to_json()})
    return path


def format_image_list(settings: Config, diagnosis: Diagnosis) -> str:
    """The list of the training images with all that a training uses of them; '' without a training split."""
    if "train" not in diagnosis.scans:
        return ""
    return image_list.format_image_list(
        diagnosis.scans["train"], settings.pseudo_fakes.needs_landmarks, settings.train.needs_pairs
    )


def scan_tables(workspace: Workspace, tables: Mapping[str, Table]) -> tuple[dict[str, ScanResult], DuplicateGroups]:
    """Scans the images of tables that were not scanned before, and compares all images with each other.

    Returns:
        The scans by the names of the tables, and the duplicates among all their images, in that order.
    """
    with closing(ScanStore(workspace.findings_path)) as findings:
        scans = _scan(findings, tables)
        return scans, _find_duplicates(list(scans.values()), findings, machine.count_cores())


def scan_table(workspace: Workspace, table: Table) -> ScanResult:
    """Scans the images of a table that were not scanned before."""
    with closing(ScanStore(workspace.findings_path)) as findings:
        return _scan(findings, {"": table})[""]


def _scan(findings: ScanStore, tables: Mapping[str, Table]) -> dict[str, ScanResult]:
    scans = {name: ScanResult(table) for name, table in tables.items()}
    label = f"scanning {', '.join(tables)}".rstrip()  # a single table has no name
    with console.bar(label, sum(map(len, tables.values())), unit="images") as bar:
        for scan in scans.values():
            for image in scan_images(scan.table, findings, machine.count_cores()):
                scan.record(image)
                bar.advance()
    return scans


def measure_reencoded(diagnosis: Diagnosis, threads: int) -> Diagnosis:
    """The diagnosis with the shortcuts of a sample of each labelled split, before and after re-encoding.

    Raises:
        DataError: no split has enough usable images of both classes, or an image has changed since the scan.
    """
    tables = {split: diagnosis.select_usable(split) for split in diagnosis.scans}
    reencoded.check_labels(tables)
    samples = {split: doctor.draw_sample(diagnosis, split) for split, table in tables.items() if has_enough(table)}
    found = {}
    label, total = f"re-encoding samples of {', '.join(samples)}", sum(len(one.table) for one, _ in samples.values())
    with console.bar(label, total, unit="images") as bar:
        for split, (sample, properties) in samples.items():
            for image in reencoded.measure_images(sample, threads):
                sample.record(image)
                bar.advance()
            found[split] = reencoded.describe(sample, properties)
            sample.clear()
    return doctor.add_reencoded(diagnosis, found)


def _find_duplicates(scans: list[ScanResult], findings: ScanStore, threads: int) -> DuplicateGroups:
    if (known := duplicate_groups.load_known(scans, findings)) is not None:
        return known
    search = Search(scans, findings, threads)
    label = "finding copies: comparing keypoints"
    with console.bar(label, search.steps, counted=False) as bar:
        pairs = _show_progress(search.find_candidates(), bar, label)
    label = "finding copies: comparing pictures"
    with console.bar(label, len(pairs), unit="pairs") as bar:
        return _show_progress(search.compare_candidates(pairs), bar, label)


def _show_progress(events: Iterator[int | Result], bar: console.Bar, label: str) -> Result:
    """The last event of a search, its result; the events before it are counts for the bar."""
    for event in events:
        if not isinstance(event, int):
            return event
        bar.at(event, label)
    raise AssertionError("a search ends with its result")
