"""Scans every image of every split, and shows problems of images and settings that would spoil a training."""

from __future__ import annotations

from typing import Any

from ffdi.commands.shared import changes, inspection, planning, sources
from ffdi.commands.shared.options import DoctorOptions
from ffdi.config import schema
from ffdi.core import console
from ffdi.core.errors import format_count
from ffdi.data.inspection import doctor, reencoded
from ffdi.data.inspection.doctor import Diagnosis
from ffdi.experiments.workspace import Workspace

SHOWN = 10
"""Groups of duplicates on the screen; doctor.json has all."""


def run(workspace: Workspace, options: DoctorOptions) -> None:
    """Scans a data set, shows its problems, and fails for problems that --accept does not name.

    Then it checks the whole config, as a training does.
    """
    accepted = doctor.parse_accept(options.accept)
    experiment = changes.open_experiment(workspace, options.experiment, options)
    settings = schema.load_experiment(experiment.config_path)
    dataset = sources.find_experiment_dataset(workspace, experiment, options.data)
    console.title(f"doctor: {format_count(sum(map(len, dataset.splits.values())), 'image')} under {dataset.root}")
    diagnosis = inspection.scan_dataset(workspace, dataset, reencode=options.reencoded)
    _show(diagnosis)
    path = inspection.write_findings(experiment, diagnosis, inspection.format_image_list(settings, diagnosis))
    console.written(path)
    if path == experiment.other_findings_path:
        console.say(f"{experiment.name} is trained on other images; their findings stay in {experiment.doctor_path}")
    diagnosis.refuse_faults(accepted)
    planning.check_config(workspace, settings)
    command = f"invoke train-folds --experiment {experiment.argument}"
    if path == experiment.other_findings_path:
        command += f" {experiment.suggest_as()}"
    elif experiment.oof_path.is_file():
        command = f"invoke report --experiment {experiment.argument}"
    console.advise(command)


def _show(diagnosis: Diagnosis) -> None:
    content = diagnosis.to_json()
    splits = content["splits"]
    rows = [(name, *(_cell(splits[split][key]) for split in splits)) for key, name in _ROWS.items()]
    console.table("images", ["", *splits], rows)
    copies = content["duplicates"]
    console.say(
        f"pictures that several images show: {copies['exact']} with equal pixels, {copies['near']} nearly alike; "
        f"{format_count(copies['images'], 'image')}"
        if copies["pictures"]
        else "no two images show the same picture"
    )
    _show_scenes(content["scenes"])
    for picture in copies["pictures"][:SHOWN]:
        console.say(f"  {picture['kind']}: {' = '.join(picture['images'])}")
    if len(copies["pictures"]) > SHOWN:
        console.say(f"  ... and {len(copies['pictures']) - SHOWN} more in doctor.json")
    if any(content["shortcuts"].values()):
        _show_shortcuts(content["shortcuts"])
    for split, found in content.get("reencoded", {}).items():
        _show_reencoded(split, found)


def _show_scenes(scenes: dict[str, Any]) -> None:
    if scenes["scenes"]:
        console.say(
            f"scenes that several pictures show (covered in part, neighbouring frames, a frame and its fake): "
            f"{scenes['scenes']}, with {format_count(scenes['images'], 'image')}; this is no "
            "problem: they stay in one fold"
        )
    if scenes["suspicious"]:
        console.warn(
            f"one of these scenes has {format_count(scenes['largest'], 'image')}, all of them in one "
            "fold; if they do not "
            "belong together, write your own groups to groups.csv"
        )


def _show_shortcuts(facts: dict[str, dict[str, dict[str, Any]]]) -> None:
    names = list(dict.fromkeys(name for areas in facts.values() for name in areas))
    rows = [(name, *(_area(areas.get(name)) for areas in facts.values())) for name in names]
    console.table("labels predicted from file properties alone: AUC (95 %)", ["", *facts], rows)


def _show_reencoded(split: str, found: dict[str, Any]) -> None:
    predictors = found["predictors"]
    rows = [
        (
            name,
            *(_area(predictor[state]) for state in reencoded.STATES),
            _shortcut(name, predictor),
        )
        for name, predictor in predictors.items()
    ]
    console.table(
        f"labels of {format_count(found['images'], f'{split} image')} predicted without the forgery, as "
        "they are and re-encoded "
        f"({found['size']} px, JPEG {found['quality']}): AUC (95 %)",
        ["", *reencoded.STATES, "shortcut"],
        rows,
    )


def _shortcut(name: str, predictor: dict[str, Any]) -> str:
    """The cell of a predictor that is a shortcut: its place, if it has one."""
    if not predictor["shortcut"]:
        return ""
    return reencoded.format_place(name, predictor) if "where" in predictor else "yes"


def _area(area: dict[str, Any] | None) -> str:
    """The cell of a fact; None: it is the same for all files of the split."""
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
