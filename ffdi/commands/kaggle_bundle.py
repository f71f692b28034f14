"""One folder that trains or scores in a Kaggle notebook without a network."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

from ffdi.commands.shared import groups
from ffdi.commands.shared.options import KaggleBundleOptions
from ffdi.config import schema, variants
from ffdi.core import console, files, links, manifests
from ffdi.data.labels import layout
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.export import ExportFolder
from ffdi.experiments.workspace import Workspace
from ffdi.inference import bundle
from ffdi.submission import kaggle_bundle

MAX_TIME = "11h"
"""The --max-time of the notebook; a Kaggle session lasts 12 h."""
METADATA = "dataset-metadata.json"
"""The name of the Kaggle data set; the Kaggle command line writes this file."""


def run(workspace: Workspace, options: KaggleBundleOptions) -> None:
    """Writes exports/<name>/kaggle/: ffdi's wheel, configs, starting weights, notebooks, and the export if it exists.

    Raises:
        ConfigError: the starting weights are not on this machine and cannot be downloaded.
        ExperimentError: the export is damaged, or pip fails.
    """
    members, name = groups.resolve_experiments(workspace, options.experiment, options.name)
    groups.write_group_variants(workspace, options.experiment)
    export = workspace.get_export(members, name)
    experiments = [workspace.get_experiment(one) for one in members]
    console.title(f"kaggle-bundle {export.name}: {', '.join(members)}")
    files.check_writable(export.bundle_path)
    with export.lock(), export.publish(export.kaggle_folder.name) as new:
        folder = new.kaggle_folder
        folder.mkdir()
        if (metadata := links.join(export.kaggle_folder, METADATA)).is_file():
            shutil.copy(metadata, folder / METADATA)
        for one in experiments:
            _copy_experiment(one, workspace.root, folder)
        kaggle_bundle.build_wheel(workspace.project, folder)
        shutil.copy(workspace.project / "tasks.py", folder / "tasks.py")
        bundled = [one.name for one in experiments]
        settings = [schema.load_experiment(one.config_path) for one in experiments]
        patterns = list(dict.fromkeys(one for each in settings for one in layout.list_patterns(each.data)))
        (folder / "train.ipynb").write_text(
            kaggle_bundle.build_training_notebook(export.name, bundled, patterns, MAX_TIME), encoding="utf-8"
        )
        if exported := _copy_export(export, folder):
            (folder / "infer.ipynb").write_text(
                kaggle_bundle.build_inference_notebook(export.name, bundled, patterns), encoding="utf-8"
            )
        if options.wheels:
            console.say(
                f"downloading wheels for Python {kaggle_bundle.PYTHON}, all but {', '.join(kaggle_bundle.PREINSTALLED)}"
            )
            console.say(f"{kaggle_bundle.download_wheels(workspace.project, folder / 'wheels')} wheels downloaded")
    notebooks = "train.ipynb and infer.ipynb" if exported else "train.ipynb"
    size = sum(path.stat().st_size for path in export.kaggle_folder.rglob("*")) / 2**20
    console.written(export.kaggle_folder, about=f" ({notebooks}; {size:.1f} MiB)")
    if not exported:
        flags = groups.repeat_flags(options.experiment, name)
        console.say(f"without an exported graph: invoke export-onnx{flags} makes one")
    if (export.kaggle_folder / METADATA).is_file():
        console.advise(f"kaggle datasets version -p {shlex.quote(str(export.kaggle_folder))} -r zip -m MESSAGE")
    else:
        console.advise(
            f"kaggle datasets init -p {shlex.quote(str(export.kaggle_folder))}; set its name in {METADATA} there; then "
            f"kaggle datasets create -p {shlex.quote(str(export.kaggle_folder))} -r zip"
        )


def _copy_experiment(experiment: Experiment, root: Path, folder: Path) -> None:
    """Copies the starting weights, and config.toml with the path of the copied weights."""
    from ffdi.models import weights

    settings, content = (
        schema.load_experiment(experiment.config_path),
        experiment.config_path.read_text(encoding="utf-8"),
    )
    found = weights.find_weights(settings.model, root)
    if found is not None:
        backbone = re.sub(r"[^\w.-]", "-", settings.model.backbone)  # it may be 'hf_hub:timm/...'
        path = Path("weights") / f"{backbone}-{manifests.hash_file(found)[:8]}{found.suffix}"
        (folder / "weights").mkdir(exist_ok=True)
        shutil.copy(found, folder / path)
        content = variants.format_variant(experiment.name, content, {"model.weights_file": str(path)})
    there = Workspace(folder, folder).experiments_folder / experiment.name
    there.mkdir(parents=True)
    (there / "config.toml").write_text(content, encoding="utf-8")


def _copy_export(export: ExportFolder, folder: Path) -> bool:
    """Copies the export; False if nothing was exported."""
    if not export.bundle_path.is_file():
        return False
    described = bundle.read_bundle(export)
    for path in [export.bundle_path, *(links.join(export.folder, name) for name in described["files"])]:
        copied = folder / "export" / path.relative_to(export.folder)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copied)
    return True
