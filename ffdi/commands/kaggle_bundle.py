"""One folder that trains or scores in notebooks on Kaggle and Colab, also without a network."""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ffdi import __version__
from ffdi.commands.shared import groups, pseudo_label_sets, reconstructions, teachers
from ffdi.commands.shared.options import KaggleBundleOptions
from ffdi.config import schema, variants
from ffdi.core import console, files, links, manifests
from ffdi.core.errors import ConfigError, DeviceError, ExperimentError, format_count
from ffdi.data.labels import layout
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.export import ExportFolder
from ffdi.experiments.workspace import Workspace
from ffdi.inference import bundle
from ffdi.submission import kaggle_bundle
from ffdi.submission.kaggle_bundle import SERVICES

METADATA = "dataset-metadata.json"
"""The name of the Kaggle data set; the Kaggle command line writes this file."""
NOTEBOOKS = {"Kaggle": ("train.ipynb", "infer.ipynb"), "Colab": ("colab-train.ipynb", "colab-infer.ipynb")}
"""The notebooks of each service."""


class Environment(NamedTuple):
    """The Python of a service's notebooks, and its packages.

    Attributes:
        service: a key of SERVICES.
        python: its version.
        packages: versions of packages that a bundle never contains: they are large, or others there need them as
            they are. The wheels of a bundle work with these versions.
    """

    service: str
    python: str
    packages: Mapping[str, str]

    @property
    def platform(self) -> list[str]:
        """The flags that make pip look for wheels of this Python on Linux; both services have glibc 2.35."""
        tags = ["manylinux2014_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in range(17, 36))]
        flags = [word for tag in reversed(tags) for word in ("--platform", tag)]
        return ["--only-binary", ":all:", "--python-version", self.python, *flags]

    def needs(self, requirement: Requirement) -> bool:
        """Whether the markers of a requirement hold there."""
        python = {"python_version": ".".join(self.python.split(".")[:2]), "python_full_version": self.python}
        linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"}
        return requirement.marker is None or requirement.marker.evaluate({"extra": "", **python, **linux})


_ALIKE = {"scikit-learn": "1.6.1", "scipy": "1.16.3", "pillow": "11.3.0", "matplotlib": "3.10.0"}
ENVIRONMENTS = {
    "3.12": Environment(
        "Kaggle",
        "3.12.13",
        {
            **{"torch": "2.10.0+cu128", "torchvision": "0.25.0+cu128", "timm": "1.0.26", "numpy": "2.0.2"},
            **{"pandas": "2.2.2", "opencv-python-headless": "4.13.0.92", "protobuf": "5.29.5", **_ALIKE},
        },
    ),
    "3.13": Environment(
        "Colab",
        "3.13.15",
        {
            **{"torch": "2.11.0+cu128", "torchvision": "0.26.0+cu128", "timm": "1.0.28", "numpy": "2.1.3"},
            **{"pandas": "2.2.3", "opencv-python-headless": "5.0.0.93", "protobuf": "5.29.6", **_ALIKE},
        },
    ),
}
"""Environments by the values of --python.

Sources: Dockerfile.tmpl of https://github.com/Kaggle/docker-python, which starts from Colab's image of 14 May 2026, and
the lists of packages in https://github.com/googlecolab/backend-info of that day and of 19 August 2026.
"""


def run(workspace: Workspace, options: KaggleBundleOptions) -> None:
    """Writes exports/<name>/kaggle/: ffdi's wheel, configs, starting weights, notebooks, and the export if it exists.

    Raises:
        ConfigError: no notebook has this Python; or the starting weights are not here and cannot be downloaded.
        ExperimentError: the export was named and does not exist, or is damaged; or pip fails.
    """
    environments = _choose_environments(options.python)
    members, name = groups.resolve_experiments(workspace, options.experiment, options.name)
    groups.write_group_variants(workspace, options.experiment)
    export = workspace.get_export(members, name)
    experiments = [workspace.get_experiment(one) for one in members]
    flags = groups.repeat_flags(options.experiment, name)
    if options.name and not export.bundle_path.is_file():
        raise ExperimentError(
            f"there is no export {export.folder}",
            hint=f"invoke export-onnx{flags}; a bundle that only trains needs no --name",
        )
    console.title(f"kaggle-bundle {export.name}: {', '.join(members)}")
    files.check_writable(export.bundle_path)
    with export.lock(), export.publish(export.kaggle_folder.name) as new:
        folder = new.kaggle_folder
        folder.mkdir()
        if (metadata := links.join(export.kaggle_folder, METADATA)).is_file():
            shutil.copy(metadata, folder / METADATA)
        for one in experiments:
            _copy_experiment(workspace, one, folder)
        kaggle_bundle.build_wheel(workspace.project, folder)
        shutil.copy(workspace.project / "tasks.py", folder / "tasks.py")
        exported = _copy_export(export, folder)
        _write_notebooks(export, experiments, folder, scoring=exported)
        for there in environments:
            _write_wheels(workspace.project, there, folder / "wheels", download=options.wheels)
    written = [name for names in NOTEBOOKS.values() for name in names[: 1 + exported]]
    size = sum(path.stat().st_size for path in export.kaggle_folder.rglob("*")) / 2**20
    console.written(export.kaggle_folder, about=f" ({', '.join(written)}; {size:.1f} MiB)")
    if not exported:
        console.say(f"without an exported graph: invoke export-onnx{flags} makes one")
    if (export.kaggle_folder / METADATA).is_file():
        console.advise(f"kaggle datasets version -p {shlex.quote(str(export.kaggle_folder))} -r zip -m MESSAGE")
    else:
        console.advise(
            f"kaggle datasets init -p {shlex.quote(str(export.kaggle_folder))}; set its name in {METADATA} there; then "
            f"kaggle datasets create -p {shlex.quote(str(export.kaggle_folder))} -r zip"
        )


def _choose_environments(pythons: Sequence[str]) -> list[Environment]:
    if unknown := [one for one in pythons if one not in ENVIRONMENTS]:
        known = ", ".join(f"{python} ({environment.service})" for python, environment in ENVIRONMENTS.items())
        raise ConfigError(
            f"--python {unknown[0]}: no notebook has this Python; known: {known}", hint="pass --python 3.12"
        )
    return [ENVIRONMENTS[one] for one in dict.fromkeys(pythons)]


def _write_notebooks(export: ExportFolder, experiments: Sequence[Experiment], folder: Path, *, scoring: bool) -> None:
    names = [one.name for one in experiments]
    settings = [schema.load_experiment(one.config_path) for one in experiments]
    patterns = list(dict.fromkeys(one for each in settings for one in layout.list_patterns(each.data)))
    builders = [kaggle_bundle.build_training_notebook, kaggle_bundle.build_inference_notebook][: 1 + scoring]
    for service in SERVICES:
        for file, build in zip(NOTEBOOKS[service], builders, strict=False):
            (folder / file).write_text(build(service, export.name, names, patterns), encoding="utf-8")


def _write_wheels(project: Path, environment: Environment, wheels: Path, *, download: bool) -> None:
    """Writes the list of what ffdi needs in an environment, and downloads the wheels if `download`."""
    from ffdi.inference import onnxruntime

    extra = onnxruntime.choose_extra(environment.packages["torch"])
    requirements = list_requirements(project, environment, extra)
    into = wheels / kaggle_bundle.format_tag(environment.python)
    into.mkdir(parents=True)
    lines = "".join(f"{one}\n" for one in requirements)
    (into / kaggle_bundle.REQUIREMENTS).write_text(lines, encoding="utf-8")
    if download:
        console.say(
            f"wheels for Python {environment.python} ({environment.service}), all but {', '.join(environment.packages)}"
        )
        count = download_wheels(requirements, environment, into)
        console.say(f"{format_count(count, 'wheel')} downloaded")


def list_requirements(project: Path, environment: Environment, extra: str) -> list[str]:
    """Lists what ffdi needs in an environment, such as 'numpy>=2'; without the extras of other packages, which bring
    libraries that come with its torch.

    Args:
        project: the folder with pyproject.toml.
        environment: where ffdi is to run.
        extra: of ffdi, with the ONNX Runtime for this environment.
    """
    content = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = map(Requirement, [*content["dependencies"], *content["optional-dependencies"][extra]])
    return [f"{canonicalize_name(one.name)}{one.specifier}" for one in listed if environment.needs(one)]


def download_wheels(requirements: Sequence[str], environment: Environment, into: Path) -> int:
    """Downloads wheels of requirements and of all that they need, except the packages of the environment.

    Args:
        requirements: as from `list_requirements`.
        environment: where they are to run.
        into: the folder for the wheels.

    Returns:
        The number of wheels.

    Raises:
        ExperimentError: a wheel is not available; has the last lines of pip.
    """
    fault = f"wheels for Python {environment.python} ({environment.service}) cannot be downloaded"
    wanted = [one for one in requirements if Requirement(one).name not in environment.packages]
    with tempfile.TemporaryDirectory(prefix="ffdi-") as folder:
        constraints = Path(folder) / "constraints.txt"
        given = (f"{name}=={version.partition('+')[0]}\n" for name, version in environment.packages.items())
        constraints.write_text("".join(given), encoding="utf-8")
        select = ["--quiet", "--dry-run", "--report", "-", "--target", folder, "--constraint", str(constraints)]
        while True:
            report = json.loads(kaggle_bundle.run_pip(fault, "install", *select, *environment.platform, *wanted))
            found = {canonicalize_name(one["metadata"]["name"]): one["metadata"] for one in report["install"]}
            listed = [Requirement(text) for one in found.values() for text in one.get("requires_dist", ())]
            known = {*found, *environment.packages}
            missing = [one for one in listed if environment.needs(one) and canonicalize_name(one.name) not in known]
            if not missing:
                break
            wanted += [f"{one.name}{one.specifier}" for one in missing]  # pip reads markers as of its own Python
    pins = [f"{name}=={one['version']}" for name, one in found.items() if name not in environment.packages]
    kaggle_bundle.run_pip(fault, "download", "--quiet", "--no-deps", *environment.platform, "--dest", str(into), *pins)
    return len(pins)


def _copy_experiment(workspace: Workspace, experiment: Experiment, folder: Path) -> None:
    """Copies what a training reads besides the images, and config.toml with the new paths."""
    from ffdi.models import weights

    root = workspace.root
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
    autoencoder = reconstructions.find_autoencoder(root, settings.pseudo_fakes)
    if autoencoder is not None:
        path = Path("weights") / f"autoencoder-{reconstructions.hash_autoencoder(autoencoder)[:8]}{autoencoder.suffix}"
        (folder / "weights").mkdir(exist_ok=True)
        reconstructions.copy_autoencoder(autoencoder, folder / path)
        content = variants.format_variant(experiment.name, content, {"pseudo_fakes.autoencoder": str(path)})
    there = Workspace(folder, folder).experiments_folder / experiment.name
    there.mkdir(parents=True)
    if settings.distill.teachers:
        teachers.read_record(experiment)
        teachers.copy_scores(experiment, Experiment(there))
    if settings.distill.features:
        if not experiment.teacher_features_path.is_file():
            raise ExperimentError(
                f"{experiment.teacher_features_path} does not exist, and the teachers do not travel with the bundle",
                hint=f"train-folds writes it first: invoke train-folds --experiment {experiment.argument}",
            )
        files.copy(experiment.teacher_features_path, Experiment(there).teacher_features_path)
    if settings.pseudo_labels.name is not None:
        labels = workspace.get_pseudo_labels(settings.pseudo_labels.name)
        pseudo_label_sets.read_record(labels)
        copied = folder / labels.folder.parent.name / labels.name
        copied.mkdir(parents=True, exist_ok=True)
        for path in (labels.labels_path, labels.record_path):
            shutil.copy(path, copied / path.name)
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


def describe_notebook() -> None:
    """Prints what a notebook has, and what ffdi will train and score on there."""
    from ffdi.inference import onnxruntime

    facts = {
        "ffdi": __version__,
        "Python": platform.python_version(),
        "GPU": "; ".join(_list_gpus()) or "none that nvidia-smi shows",
        **_describe_training(),
        "ONNX Runtime": onnxruntime.describe_library(),
        "scoring uses": _describe_scoring(),
    }
    console.title("This notebook has, and ffdi will use:")
    for name, fact in facts.items():
        console.say(f"  {name:<14}{fact}")


def _list_gpus() -> list[str]:
    """Lists GPUs with their memory and their driver."""
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    asked = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    result = subprocess.run(asked, capture_output=True, text=True, check=False)
    if result.returncode:
        return [f"nvidia-smi fails: {' '.join((result.stdout + result.stderr).split())}"]
    gpus = [line.rsplit(", ", 2) for line in result.stdout.splitlines() if line.count(", ") > 1]
    return [f"{name}, {memory}, driver {driver}" for name, memory, driver in gpus]


def _describe_training() -> dict[str, str]:
    try:
        from ffdi.training.runtime import device
    except ModuleNotFoundError as error:
        return {"torch": f"not here ({error}); scoring does not need it"}
    try:
        used = device.choose_device("auto", "auto", None).why
    except DeviceError as error:
        used = f"nothing: {error.what} (next: {error.hint})"
    return {"torch": device.describe_library(), "training uses": used}


def _describe_scoring() -> str:
    """Says which runtimes `--device auto` tries, and why it leaves out those for GPUs that cannot be used here."""
    from ffdi.inference.select import RUNTIMES

    faults = {name: one.missing(0) for name, one in RUNTIMES.items() if one.offered and one.numbered}
    if usable := [name for name, fault in faults.items() if not fault]:
        return f"the GPU ({', '.join(usable)}), if its scores are those of the export and it is faster than the CPU"
    why = "; ".join(dict.fromkeys(faults.values()))
    return f"the CPU, because ONNX Runtime cannot use a GPU: {why}"


if __name__ == "__main__":
    describe_notebook()
