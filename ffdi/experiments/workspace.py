"""The folder in which experiments/, exports/ and data/ lie."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffdi.config import variants
from ffdi.core import files, hashes, links, names
from ffdi.core.errors import ConfigError, nearest
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.export import ExportFolder

LONGEST = 200
"""Bytes of a folder's name; file systems take 255, and what is written beside it has longer ones."""


@dataclass(frozen=True)
class Workspace:
    """The folder whose `experiments/`, `exports/` and `data/` are read and written.

    Attributes:
        root: that folder: $FFDI_ROOT where it is set, else the project's.
        project: the folder the code's own experiments came with; it may be read-only.
    """

    root: Path
    project: Path

    @classmethod
    def of(cls, project: Path) -> Workspace:
        """The workspace that $FFDI_ROOT names, else the project itself.

        Raises:
            ConfigError: its path is no UTF-8; ffdi writes paths down.
        """
        root = os.environ.get("FFDI_ROOT")
        found = links.root(Path(root).expanduser()) if root else project
        if not names.is_text(str(found)):
            raise ConfigError(f"the workspace {found} is no UTF-8", hint="rename that folder, or set FFDI_ROOT")
        return cls(found, project)

    @property
    def data_folder(self) -> Path:
        """What is known of images, and the demonstration competition; a root of its own."""
        return links.root(self.root / "data")

    @property
    def demo_folder(self) -> Path:
        """The demonstration competition."""
        return links.below(self.data_folder, "quickstart")

    @property
    def findings_path(self) -> Path:
        """What was found in images, by their hash; it can be made again."""
        return links.below(self.data_folder, "findings.sqlite")

    def vetted_path(self, sha256: str) -> Path:
        """Stands where a graph of that hash was made or vetted here."""
        return links.below(self.data_folder, "vetted", sha256)

    def cache_folder(self, data: Path, kind: str) -> Path:
        """Where the images of a data folder are packed, as what `kind` says.

        Raises:
            ConfigError: the folder's path is no UTF-8.
        """
        place = str(data.resolve())
        if not names.is_text(place):
            raise ConfigError(f"the data folder {place} is no UTF-8", hint="rename that folder")
        return links.below(self.data_folder, "cache", f"{Path(place).name}-{hashes.hash_text(place)[:8]}", kind)

    def experiment(self, name: str) -> Experiment:
        """The experiment of that name under experiments/, or in the folder that `name` is a path to.

        An experiment that only the project has is given to the workspace: its config.toml is copied.

        Raises:
            ConfigError: there is no such experiment, or its name is refused (`names.find_fault`).
            ExperimentError: it is a link, or there is one in it.
        """
        if (own := self._own(name)) is not None:
            links.check_path(own.folder)
            return own
        if (shipped := self._shipped(name)) is not None:
            given = Experiment(links.below(self.experiments_folder, name))
            links.check_path(given.folder)
            files.write_text(given.config_path, shipped.config_path.read_text(encoding="utf-8"))
            return given
        here = self.root / "experiments" / name
        raise ConfigError(
            f"no experiment '{name}': neither {here / 'config.toml'} nor {Path(name) / 'config.toml'} exists",
            hint=f"pass --experiment NAME or --experiment FOLDER; {nearest(name, self._names())}",
        )

    def found(self, name: str) -> Experiment | None:
        """The experiment of that name wherever it lies, with the project too; nothing is written."""
        return self._own(name) or self._shipped(name)

    def variant(self, base: Experiment, keys: variants.Keys) -> Experiment:
        """The experiment that differs from another one in these keys; it is made where it is not there.

        Raises:
            ConfigError: a key is unknown or does not take that value; or an experiment of that name is there and
                says something else.
        """
        if not keys:
            return base
        name = variants.name(base.name, keys)
        content = variants.text(base.name, base.config_path.read_text(encoding="utf-8"), keys)
        made = Experiment(links.below(self.experiments_folder, name))
        if not made.config_path.is_file():
            files.write_text(made.config_path, content)
        elif made.config_path.read_text(encoding="utf-8") != content:
            raise ConfigError(
                f"{made.config_path} is not what {base.name} with these keys would be: one of the two was changed",
                hint=f"undo the change, or remove the variant: rm -r {_quoted(made.folder)}",
            )
        return made

    @property
    def experiments_folder(self) -> Path:
        """Where experiments lie; a root of its own."""
        return links.root(self.root / "experiments")

    def experiments(self) -> list[Experiment]:
        """Every experiment of the workspace, by name; one that is a link refuses every path that it is asked for."""
        return [Experiment(path.parent) for path in sorted(self.experiments_folder.glob("*/config.toml"))]

    def leaderboard_path(self, ending: str) -> Path:
        """The table of all experiments."""
        return links.below(self.experiments_folder, f"leaderboard.{ending}")

    def export(self, experiments: Sequence[str], name: str | None = None) -> ExportFolder:
        """The folder exports/<name>, named after the experiments, joined by '+', where there is no name.

        Raises:
            ConfigError: the name is no plain folder name.
            ExperimentError: the folder is a link, or there is one in it.
        """
        joined = name or "+".join(links.root(Path(experiment)).name for experiment in experiments)
        if joined in (".", "..") or "/" in joined or "\\" in joined:
            raise ConfigError(f"--name '{joined}' is no folder name", hint="pass a name without slashes")
        if fault := names.find_fault(joined):
            raise ConfigError(f"the name of this export {fault}: {joined}", hint="pass another one with --name")
        if len(joined.encode()) > LONGEST:
            raise ConfigError(
                f"the name of this export would have {len(joined.encode())} bytes: {joined[:40]}...",
                hint="pass a shorter one with --name",
            )
        folder = links.below(self.exports_folder, joined)
        links.check_path(folder)
        return ExportFolder(folder)

    @property
    def exports_folder(self) -> Path:
        """Where exports lie; a root of its own."""
        return links.root(self.root / "exports")

    def exports(self) -> list[Path]:
        """Every folder under exports/, and every link to one, by name."""
        return sorted(path for path in self.exports_folder.glob("*") if path.is_dir())

    def _own(self, name: str) -> Experiment | None:
        if links.is_inside(name):
            place = self.experiments_folder / name
            hint = f"pass --experiment {_quoted(links.root(place))}, or remove the link: rm {_quoted(place)}"
            here = Experiment(links.below(self.experiments_folder, name, hint=hint))
            if here.config_path.is_file():
                return _fit(here)
        return _fit(Experiment(links.root(Path(name)))) if (Path(name) / "config.toml").is_file() else None

    def _shipped(self, name: str) -> Experiment | None:
        if not links.is_inside(name):
            return None
        here = Experiment(links.below(links.root(self.project / "experiments"), name))
        return _fit(here) if here.config_path.is_file() else None

    def _names(self) -> list[str]:
        places = {self.root / "experiments", self.project / "experiments"}
        return sorted({path.parent.name for place in places for path in place.glob("*/config.toml")})


def _fit(experiment: Experiment) -> Experiment:
    """An experiment whose name can stand in tables and commands."""
    if fault := names.find_fault(experiment.name):
        raise ConfigError(f"the name of the experiment {experiment.folder} {fault}", hint="rename this folder")
    return experiment


def _quoted(path: Path) -> str:
    """As a shell takes it for one word."""
    return shlex.quote(str(path))
