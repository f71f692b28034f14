"""Looks at every image of every split, and says what would spoil a run."""

from __future__ import annotations

import shlex
from typing import Any

from ffdi.commands.shared import inspection, sources
from ffdi.config import schema
from ffdi.core import console
from ffdi.data.inspection import doctor
from ffdi.data.inspection.doctor import Diagnosis
from ffdi.experiments.workspace import Workspace

NAMED = 10
"""Pictures named on the screen; doctor.json has all."""


def run(workspace: Workspace, name: str, *, data: str | None, accept: str | None) -> None:
    """Examines a data set, shows what was found, and refuses what would spoil a run."""
    accepted = doctor.parse_accept(accept)
    experiment = workspace.experiment(name)
    settings = schema.load(experiment.config_path)
    found = sources.find_dataset(workspace, settings, sources.data_root(workspace, settings, data))
    console.title(f"doctor: {sum(map(len, found.splits.values()))} images under {found.root}")
    diagnosis = inspection.inspect(workspace, experiment, found)
    _show(diagnosis)
    console.written(experiment.doctor_path)
    diagnosis.check(accepted)
    console.advise(f"invoke train-folds --experiment {shlex.quote(name)}")


def _show(diagnosis: Diagnosis) -> None:
    content = diagnosis.to_json()
    splits = content["splits"]
    rows = [(name, *(_cell(splits[split][key]) for split in splits)) for key, name in _ROWS.items()]
    console.table("images", ["", *splits], rows)
    copies = content["duplicates"]
    console.say(
        f"pictures that several images show: {copies['exact']} with equal pixels, {copies['near']} nearly alike; "
        f"{copies['images']} images"
        if copies["pictures"]
        else "no two images show the same picture"
    )
    _show_scenes(content["scenes"])
    for picture in copies["pictures"][:NAMED]:
        console.say(f"  {picture['kind']}: {' = '.join(picture['images'])}")
    if len(copies["pictures"]) > NAMED:
        console.say(f"  ... and {len(copies['pictures']) - NAMED} more in doctor.json")
    if any(content["shortcuts"].values()):
        _show_shortcuts(content["shortcuts"])


def _show_scenes(scenes: dict[str, Any]) -> None:
    if scenes["scenes"]:
        console.say(
            f"scenes that several pictures show (covered in part, neighbouring frames, a frame and its fake): "
            f"{scenes['scenes']}, with {scenes['images']} images; they are no fault, and stay in one fold"
        )
    if scenes["suspicious"]:
        console.warn(
            f"one of these scenes has {scenes['largest']} images, which all stand in one fold; if they do not "
            "belong together, name your own groups in groups.csv"
        )


def _show_shortcuts(facts: dict[str, dict[str, dict[str, Any]]]) -> None:
    names = list(dict.fromkeys(name for areas in facts.values() for name in areas))
    rows = [(name, *(_area(areas.get(name)) for areas in facts.values())) for name in names]
    console.table("labels told by facts about the files alone: AUC (95 %)", ["", *facts], rows)


def _area(area: dict[str, Any] | None) -> str:
    """The cell of a fact; without one all files of the split are alike in it."""
    if area is None:
        return "-"
    return f"{area['auc']:.3f} ({console.interval(area['interval'])})"


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count}" for name, count in value.items())
    return "-" if value is None else str(value)


_ROWS = {
    "images": "images",
    "real": "real",
    "fake": "fake",
    "groups": "groups",
    "unusable": "cannot be used",
    "formats": "formats",
    "modes": "modes",
    "sizes": "sizes",
}
