"""One folder that trains or scores in a Kaggle notebook without a network."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from ffdi.commands.shared import lists, screens
from ffdi.config import schema, variants
from ffdi.core import console, files, links
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.export import ExportFolder
from ffdi.experiments.workspace import Workspace
from ffdi.inference import bundle
from ffdi.kaggle import offline

MAX_TIME = "11h"
"""A session on Kaggle has twelve."""
NAMED = "dataset-metadata.json"
"""What a person calls the data set; Kaggle's command line writes it."""


def run(workspace: Workspace, names: Sequence[str], *, name: str | None, with_wheels: bool) -> None:
    """Makes exports/<name>/kaggle/: ffdi's wheel, configs, starting weights, the export if there is one, notebooks.

    Args:
        workspace: where experiments and exports lie.
        names: of experiments.
        name: of their export.
        with_wheels: whether wheels of all that ffdi needs are fetched too.

    Raises:
        ConfigError: starting weights are wanted that are not on this machine and cannot be fetched.
        ExperimentError: the export is damaged; or pip fails.
    """
    members, name = lists.resolve_experiments(workspace, names, name)
    lists.make_listed_experiments(workspace, names)
    export = workspace.export(members, name)
    experiments = [workspace.experiment(one) for one in members]
    console.title(f"kaggle-bundle {export.name}: {', '.join(members)}")
    files.check_writable(export.bundle_path)
    with export.locked(), export.publishing(export.kaggle_folder.name) as new:
        folder = new.kaggle_folder
        folder.mkdir()
        if (named := links.below(export.kaggle_folder, NAMED)).is_file():
            shutil.copy(named, folder / NAMED)
        for one in experiments:
            _experiment(one, workspace.root, folder)
        offline.build_wheel(workspace.project, folder)
        shutil.copy(workspace.project / "tasks.py", folder / "tasks.py")
        names_there = [one.name for one in experiments]
        (folder / "train.ipynb").write_text(offline.training(export.name, names_there, MAX_TIME), encoding="utf-8")
        exported = _export(export, folder)
        if with_wheels:
            console.say(f"fetching wheels for Python {offline.PYTHON}, all but {', '.join(offline.THERE)}")
            console.say(f"{offline.download_wheels(workspace.project, folder / 'wheels')} wheels are there")
    what = "train.ipynb and infer.ipynb" if exported else "train.ipynb"
    size = sum(path.stat().st_size for path in export.kaggle_folder.rglob("*")) / 2**20
    console.written(export.kaggle_folder, about=f" ({what}; {size:.1f} MiB)")
    if not exported:
        console.say(f"without a graph to score with: invoke export-onnx{screens.repeat_flags(names, name)} makes one")
    if (export.kaggle_folder / NAMED).is_file():
        console.advise(f"kaggle datasets version -p {shlex.quote(str(export.kaggle_folder))} -r zip -m MESSAGE")
    else:
        console.advise(
            f"kaggle datasets init -p {shlex.quote(str(export.kaggle_folder))}; name it in {NAMED} there; then "
            f"kaggle datasets create -p {shlex.quote(str(export.kaggle_folder))} -r zip"
        )


def _experiment(experiment: Experiment, root: Path, folder: Path) -> None:
    """Its config.toml, and the weights it starts from, which that then names."""
    from ffdi.models import weights

    settings, content = schema.load(experiment.config_path), experiment.config_path.read_text(encoding="utf-8")
    found = weights.find_weights(settings.model, root)
    if found is not None:
        path = Path("weights") / f"{settings.model.backbone}{found.suffix}"
        (folder / "weights").mkdir(exist_ok=True)
        shutil.copy(found, folder / path)
        content = variants.text(experiment.name, content, {"model.weights_file": str(path)})
    there = Workspace(folder, folder).experiments_folder / experiment.name
    there.mkdir(parents=True)
    (there / "config.toml").write_text(content, encoding="utf-8")


def _export(export: ExportFolder, folder: Path) -> bool:
    """The graph with all that belongs to it, where there is one; whether there is."""
    if not export.bundle_path.is_file():
        return False
    described = bundle.read(export)
    for path in [export.bundle_path, *(links.below(export.folder, name) for name in described["files"])]:
        copied = folder / "export" / path.relative_to(export.folder)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copied)
    (folder / "infer.ipynb").write_text(offline.inference(export.name), encoding="utf-8")
    return True
