"""The folder in which experiments/, exports/ and data/ lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffdi import hashes, publish, variants
from ffdi.errors import ConfigError, nearest
from ffdi.store.experiment import Experiment
from ffdi.store.export import ExportFolder

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
        """The workspace that $FFDI_ROOT names, else the project itself."""
        root = os.environ.get("FFDI_ROOT")
        return cls(Path(root).expanduser().resolve() if root else project, project)

    @property
    def findings_path(self) -> Path:
        """What was found in images, by their hash; it can be made again."""
        return self.root / "data" / "findings.sqlite"

    def vetted_path(self, sha256: str) -> Path:
        """Stands where a graph of that hash was made or vetted here."""
        return self.root / "data" / "vetted" / sha256

    def cache_folder(self, data: Path, kind: str) -> Path:
        """Where the images of a data folder are packed, as what `kind` says."""
        place = str(data.resolve())
        return self.root / "data" / "cache" / f"{Path(place).name}-{hashes.of_text(place)[:8]}" / kind

    def experiment(self, name: str) -> Experiment:
        """The experiment of that name under experiments/, or in the folder that `name` is a path to.

        An experiment that only the project has is given to the workspace: its config.toml is copied.

        Raises:
            ConfigError: there is no such experiment.
        """
        if (own := self._own(name)) is not None:
            return own
        here = self.root / "experiments" / name
        if (shipped := self._shipped(name)) is not None:
            publish.text(here / "config.toml", shipped.config_path.read_text(encoding="utf-8"))
            return Experiment(here)
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
        made = Experiment(self.root / "experiments" / name)
        if not made.config_path.is_file():
            publish.text(made.config_path, content)
        elif made.config_path.read_text(encoding="utf-8") != content:
            raise ConfigError(
                f"{made.config_path} is not what {base.name} with these keys would be: one of the two was changed",
                hint=f"undo the change, or remove the variant: rm -r {made.folder}",
            )
        return made

    @property
    def experiments_folder(self) -> Path:
        """Where experiments lie."""
        return self.root / "experiments"

    def experiments(self) -> list[Experiment]:
        """Every experiment of the workspace, by name."""
        return [Experiment(path.parent) for path in sorted(self.experiments_folder.glob("*/config.toml"))]

    def leaderboard_path(self, ending: str) -> Path:
        """The table of all experiments."""
        return self.root / "experiments" / f"leaderboard.{ending}"

    def export(self, experiments: Sequence[str], name: str | None = None) -> ExportFolder:
        """The folder exports/<name>, named after the experiments, joined by '+', where there is no name.

        Raises:
            ConfigError: the name is no plain folder name.
        """
        joined = name or "+".join(Path(experiment).resolve().name for experiment in experiments)
        if joined in (".", "..") or "/" in joined or "\\" in joined:
            raise ConfigError(f"--name '{joined}' is no folder name", hint="pass a name without slashes")
        if len(joined.encode()) > LONGEST:
            raise ConfigError(
                f"the name of this export would have {len(joined.encode())} bytes: {joined[:40]}...",
                hint="pass a shorter one with --name",
            )
        return ExportFolder(self.root / "exports" / joined)

    def exports(self) -> list[Path]:
        """Every folder under exports/, by name."""
        return sorted(path for path in (self.root / "exports").glob("*") if path.is_dir())

    def _own(self, name: str) -> Experiment | None:
        places = (self.root / "experiments" / name, Path(name))
        return next((Experiment(place.resolve()) for place in places if (place / "config.toml").is_file()), None)

    def _shipped(self, name: str) -> Experiment | None:
        place = self.project / "experiments" / name
        return Experiment(place) if (place / "config.toml").is_file() else None

    def _names(self) -> list[str]:
        places = {self.root / "experiments", self.project / "experiments"}
        return sorted({path.parent.name for place in places for path in place.glob("*/config.toml")})
