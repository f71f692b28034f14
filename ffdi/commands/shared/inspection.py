"""Every image of a data set, looked at and compared, with a bar that shows how far the look is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from ffdi.core import console, machine, manifests
from ffdi.data.inspection import doctor, duplicate_groups
from ffdi.data.inspection.doctor import Diagnosis
from ffdi.data.inspection.duplicate_groups import DuplicateGroups, Search
from ffdi.data.inspection.scan import ScanResult, scan_images
from ffdi.data.inspection.scan_store import ScanStore
from ffdi.data.labels.layout import Dataset
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace

Found = TypeVar("Found")


def inspect(workspace: Workspace, experiment: Experiment, found: Dataset) -> Diagnosis:
    """Looks at all images, those that nobody has looked at before, and writes doctor.json."""
    findings, threads = ScanStore(workspace.findings_path), machine.cores()
    try:
        surveys = {split: ScanResult(table) for split, table in found.splits.items()}
        with console.bar("looking at images", sum(map(len, found.splits.values()))) as bar:
            for survey in surveys.values():
                for seen in scan_images(survey.table, findings, threads):
                    survey.record(seen)
                    bar.advance()
        diagnosis = doctor.diagnose(found.root, surveys, _twins(list(surveys.values()), findings, threads))
    finally:
        findings.close()
    manifests.write_manifest(experiment.doctor_path, diagnosis.to_json())
    return diagnosis


def _twins(surveys: list[ScanResult], findings: ScanStore, threads: int) -> DuplicateGroups:
    if (known := duplicate_groups.recall(surveys, findings)) is not None:
        return known
    search = Search(surveys, findings, threads)
    with console.bar("comparing keypoints", search.steps, counted=False) as bar:
        pairs = _last(search.candidates(), bar, "comparing keypoints")
    with console.bar("comparing pictures", len(pairs)) as bar:
        return _last(search.twins(pairs), bar, "comparing pictures")


def _last(events: Iterator[int | Found], bar: console.Bar, label: str) -> Found:
    """What a search ends with; the counts before it move the bar."""
    for event in events:
        if not isinstance(event, int):
            return event
        bar.at(event, label)
    raise AssertionError("a search ends with what it has found")
