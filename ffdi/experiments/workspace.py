"""The workspace: the folder with experiments/, exports/ and data/."""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffdi.config import schema, variants
from ffdi.core import files, links, manifests, names
from ffdi.core.errors import ConfigError, format_count, suggest_nearest
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.export import ExportFolder
from ffdi.experiments.pseudo_labels import PseudoLabelFolder

MAX_NAME_BYTES = 200
"""Bytes of a folder's name; file systems allow 255, and names of temporary files are longer."""
PACKAGE = Path(__file__).resolve().parent.parent
CHECKOUT, SHIPPED = PACKAGE.parent, PACKAGE / "shipped"
"""The project's folder where ffdi runs from a checkout; and where it was installed: setup.py puts the configs there."""
COMMANDS = "tasks.py"
"""The file of a checkout that has the commands."""


@dataclass(frozen=True)
class Workspace:
    """The folder with experiments/, exports/ and data/.

    Attributes:
        root: $FFDI_ROOT if it is set, else the project's folder, or that of a notebook.
        project: the folder of the code and its own experiments; may be read-only.
    """

    root: Path
    project: Path

    @classmethod
    def from_environment(cls, project: Path, otherwise: Path | None = None) -> Workspace:
        """Returns the workspace of $FFDI_ROOT.

        Args:
            project: the folder of the code and its own experiments.
            otherwise: the workspace if $FFDI_ROOT is not set; None: the project.

        Raises:
            ConfigError: its path is not UTF-8; files of ffdi contain paths.
        """
        root = os.environ.get("FFDI_ROOT")
        found = links.resolve_root(Path(root).expanduser()) if root else otherwise or project
        if not names.is_text(str(found)):
            raise ConfigError(f"the workspace {found} is not UTF-8", hint="rename that folder, or set FFDI_ROOT")
        return cls(found, project)

    @classmethod
    def find(cls, folder: Path) -> Workspace:
        """Returns the workspace for a notebook: of $FFDI_ROOT, of the checkout around a folder, or the folder itself.

        Args:
            folder: where the notebook runs.

        Raises:
            ConfigError: as in `from_environment`.
        """
        project = CHECKOUT if (CHECKOUT / COMMANDS).is_file() else SHIPPED
        if os.environ.get("FFDI_ROOT") or (folder / "experiments").is_dir():
            return cls.from_environment(project, folder)
        checkouts = (one for one in folder.parents if (one / COMMANDS).is_file() and (one / "experiments").is_dir())
        return cls.from_environment(project, next(checkouts, folder))

    @property
    def data_folder(self) -> Path:
        """Results of image scans, image caches and the demonstration competition; a root of its own."""
        return links.resolve_root(self.root / "data")

    @property
    def demo_folder(self) -> Path:
        return links.join(self.data_folder, "quickstart")

    @property
    def findings_path(self) -> Path:
        """Results of image scans by image hash; a cache, which may be removed."""
        return links.join(self.data_folder, "findings.sqlite")

    @property
    def engines_folder(self) -> Path:
        """Graphs that TensorRT has compiled for a GPU; a cache, which may be removed.

        Not next to the graph: an engine contains code, and an export may come from another person.
        """
        return links.join(self.data_folder, "engines")

    def get_reconstructions_folder(self, sha256: str) -> Path:
        """Returns the folder of the reconstructions by an autoencoder; a cache, which may be removed.

        Args:
            sha256: the hash of the autoencoder.
        """
        return links.join(self.data_folder, "reconstructions", sha256[:16])

    def get_features_folder(self, digest: str) -> Path:
        """Returns the folder of features of images that a frozen backbone has computed; a cache, which may be removed.

        Args:
            digest: the hash of all that the features depend on, but for the images.
        """
        return links.join(self.data_folder, "features", digest)

    def get_pseudo_labels(self, name: str) -> PseudoLabelFolder:
        """Returns the folder of pseudo-labels, which may not exist.

        Raises:
            ConfigError: the name is not usable as a folder name.
            ExperimentError: the folder is a link, or contains one.
        """
        _check_folder_name(name, "pseudo-labels", "--name")
        folder = links.join(self.data_folder, "pseudo_labels", name)
        links.refuse_links_below(folder)
        return PseudoLabelFolder(folder)

    def list_pseudo_labels(self) -> list[Path]:
        """Lists the folder of each set of pseudo-labels, by name."""
        return sorted(path for path in links.join(self.data_folder, "pseudo_labels").glob("*") if path.is_dir())

    def get_vetting_path(self, sha256: str, size: int) -> Path:
        """Returns the path of an empty file that exists if a graph was made or vetted here.

        Its name is a hash of the graph's hash and the size of its images: another size is vetted again.
        """
        return links.join(self.data_folder, "vetted", manifests.hash_text(f"{sha256} {size} px"))

    def get_export_trial_path(self, network: str) -> Path:
        """Returns the path of the result of an export that was tried before a training.

        Args:
            network: all that the result depends on.
        """
        return links.join(self.data_folder, "exportable", manifests.hash_text(network))

    def get_cache_folder(self, data: Path, kind: str) -> Path:
        """Returns the folder of an image cache.

        Args:
            data: the data folder with the images.
            kind: "files", or the size of decoded images.

        Raises:
            ConfigError: the folder's path is not UTF-8.
        """
        place = str(data.resolve())
        if not names.is_text(place):
            raise ConfigError(f"the data folder {place} is not UTF-8", hint="rename that folder")
        return links.join(self.data_folder, "cache", f"{Path(place).name}-{manifests.hash_text(place)[:8]}", kind)

    def get_experiment(self, name: str) -> Experiment:
        """Returns the experiment of a name under experiments/, or of a path.

        The config.toml of the project's own experiments is copied to the workspace first.

        Raises:
            ConfigError: the experiment does not exist, or its name is refused (`names.find_fault`).
            ExperimentError: its folder is a link, or contains one.
        """
        if (own := self._find_own(name)) is not None:
            links.refuse_links_below(own.folder)
            return own
        if (shipped := self._find_shipped(name)) is not None:
            copy = Experiment(links.join(self.experiments_folder, name))
            links.refuse_links_below(copy.folder)
            files.write_text(copy.config_path, shipped.config_path.read_text(encoding="utf-8"))
            return copy
        here = self.root / "experiments" / name
        raise ConfigError(
            f"no experiment '{name}': neither {here / 'config.toml'} nor {Path(name) / 'config.toml'} exists",
            hint=f"pass --experiment NAME or --experiment FOLDER; {suggest_nearest(name, self._list_names())}",
        )

    def find_experiment(self, name: str) -> Experiment | None:
        """Finds an experiment in the workspace or the project; copies nothing."""
        return self._find_own(name) or self._find_shipped(name)

    def create_variant(self, base: Experiment, keys: variants.Keys) -> Experiment:
        """Returns the experiment that differs from another one in these keys; creates it if it does not exist.

        Raises:
            ConfigError: a key is unknown, or its value is out of range; or an experiment of that name exists with
                another config.
        """
        if not keys:
            return base
        name = variants.name_variant(base.name, keys)
        content = variants.format_variant(base.name, base.config_path.read_text(encoding="utf-8"), keys)
        made = Experiment(links.join(self.experiments_folder, name))
        if not made.config_path.is_file():
            files.write_text(made.config_path, content)
        elif schema.load_config(made.config_path) != schema.validate(tomllib.loads(content), name):
            raise ConfigError(
                f"{made.config_path} differs from {base.name} with these keys: one of the two files was changed",
                hint=f"undo the change, or remove the variant: rm -r {_quote(made.folder)}",
            )
        return made

    def plan_experiment(self, name: str, flag: str) -> Experiment:
        """Returns a new experiment, of which nothing is written yet.

        Args:
            name: of the experiment.
            flag: that has the name, such as '--student'.

        Raises:
            ConfigError: the name is not usable as a folder name, or is taken.
        """
        _check_folder_name(name, "experiment", flag)
        if self.find_experiment(name) is not None:
            raise ConfigError(f"the experiment {name} exists", hint=f"pass another name with {flag}")
        return Experiment(links.join(self.experiments_folder, name))

    @property
    def experiments_folder(self) -> Path:
        """The folder experiments/; a root of its own."""
        return links.resolve_root(self.root / "experiments")

    def list_experiments(self) -> list[Experiment]:
        """Lists all experiments by name, including links; the paths of a linked experiment raise an error."""
        return [Experiment(path.parent) for path in sorted(self.experiments_folder.glob("*/config.toml"))]

    def get_leaderboard_path(self, ending: str) -> Path:
        return links.join(self.experiments_folder, f"leaderboard.{ending}")

    def get_export(self, experiments: Sequence[str], name: str | None = None) -> ExportFolder:
        """Returns the folder exports/<name>; the default name is the names of the experiments, joined by '+'.

        Raises:
            ConfigError: the name is not usable as a folder name.
            ExperimentError: the folder is a link, or contains one.
        """
        joined = name or "+".join(links.resolve_root(Path(experiment)).name for experiment in experiments)
        _check_folder_name(joined, "export", "--name")
        folder = links.join(self.exports_folder, joined)
        links.refuse_links_below(folder)
        return ExportFolder(folder)

    def get_live_path(self, experiments: Sequence[Experiment], export: ExportFolder) -> Path:
        """Returns the path of the page that follows trainings: in the experiment's folder, or beside several ones.

        Args:
            experiments: that are trained.
            export: of all of them; its name is that of a page for several.
        """
        if len(experiments) == 1:
            return experiments[0].live_path
        return links.join(self.experiments_folder, f"{export.name}.live.html")

    @property
    def exports_folder(self) -> Path:
        """The folder exports/; a root of its own."""
        return links.resolve_root(self.root / "exports")

    def list_exports(self) -> list[Path]:
        """Lists every folder under exports/, and every link to a folder, by name."""
        return sorted(path for path in self.exports_folder.glob("*") if path.is_dir())

    def _find_own(self, name: str) -> Experiment | None:
        if links.is_inside(name):
            place = self.experiments_folder / name
            hint = f"pass --experiment {_quote(links.resolve_root(place))}, or remove the link: rm {_quote(place)}"
            here = Experiment(links.join(self.experiments_folder, name, hint=hint))
            if here.config_path.is_file():
                return _check_name(here)
        if (Path(name) / "config.toml").is_file():
            folder = links.resolve_root(Path(name))
            return _check_name(Experiment(folder, "" if folder.parent == self.experiments_folder else str(folder)))
        return None

    def _find_shipped(self, name: str) -> Experiment | None:
        if not links.is_inside(name):
            return None
        here = Experiment(links.join(links.resolve_root(self.project / "experiments"), name))
        return _check_name(here) if here.config_path.is_file() else None

    def _list_names(self) -> list[str]:
        places = {self.root / "experiments", self.project / "experiments"}
        return sorted({path.parent.name for place in places for path in place.glob("*/config.toml")})


def _check_folder_name(name: str, what: str, flag: str) -> None:
    if name in (".", "..") or "/" in name or "\\" in name:
        raise ConfigError(f"{flag} '{name}' is no folder name", hint="pass a name without slashes")
    if fault := names.find_fault(name):
        raise ConfigError(f"the name of this {what} {fault}: {name}", hint=f"pass another one with {flag}")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ConfigError(
            f"the name of this {what} would have {format_count(len(name.encode()), 'byte')}: {name[:40]}...",
            hint=f"pass a shorter one with {flag}",
        )


def _check_name(experiment: Experiment) -> Experiment:
    """Refuses an experiment with a name that is unsafe in tables and commands; returns the others."""
    if fault := names.find_fault(experiment.name):
        raise ConfigError(f"the name of the experiment {experiment.folder} {fault}", hint="rename this folder")
    return experiment


def _quote(path: Path) -> str:
    return shlex.quote(str(path))
