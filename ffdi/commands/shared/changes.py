"""The experiment of a command, with the changes of --set and --as."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ffdi.commands.shared import setting_checks, sources
from ffdi.config import schema, variants
from ffdi.config.schema import Config, list_differences
from ffdi.config.variants import Keys
from ffdi.core import console, files
from ffdi.core.errors import ConfigError, ExperimentError, format_count
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace


class Changes(Protocol):
    """The flags of `ChangeOptions`, and --data."""

    @property
    def set(self) -> tuple[str, ...]: ...

    @property
    def as_(self) -> str | None: ...

    @property
    def data(self) -> str | None: ...


def open_experiment(
    workspace: Workspace, name: str, changes: Changes, *, restart: bool = False, fits_epochs: bool = False
) -> Experiment:
    """Returns an experiment with the changes of --set, in its own config.toml or with --as in that of a new experiment.

    Args:
        workspace: of the experiment.
        name: of the experiment.
        changes: the flags; without them, the experiment as it is.
        restart: whether the trained folds are to be discarded, so that all keys may change.
        fits_epochs: whether the command sets train.epochs itself, so that an experiment of an earlier call may have
            others.

    Raises:
        ConfigError: a key is unknown or does not accept its value; or the name of --as is taken by an experiment with
            another config.
        ExperimentError: a key that a trained experiment depends on would change.
    """
    keys = parse_keys(changes.set)
    if changes.as_ is not None:
        return _create(workspace, name, changes.as_, keys, changes.data, fits_epochs=fits_epochs)
    experiment = workspace.get_experiment(name)
    if keys:
        _change(experiment, keys, restart=restart)
    return experiment


def parse_keys(words: Sequence[str]) -> Keys:
    """Parses words such as 'train.lr=1e-4'.

    Raises:
        ConfigError: a word has another form, a key is duplicate, or has several values.
    """
    grid = variants.parse_grid(words)
    for key, values in grid.items():
        if len(values) > 1:
            raise ConfigError(
                f"--set {key} has {format_count(len(values), 'value')}, and an experiment has one",
                hint="pass one value; invoke sweep compares several",
            )
    return {key: values[0] for key, values in grid.items()}


def suggest(experiment: Experiment, keys: Keys) -> str:
    """The command that trains an experiment with other values of keys; a trained one stays as it is."""
    words = "".join(f" --set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in keys.items())
    name = f" {experiment.suggest_as()}" if keys and experiment.resolved_path.is_file() else ""
    return f"invoke train-folds --experiment {experiment.argument}{words}{name}"


def _create(
    workspace: Workspace, name: str, new: str, keys: Keys, data: str | None, *, fits_epochs: bool
) -> Experiment:
    """Writes the config.toml of a new experiment, with its data folder; or checks that of an earlier call."""
    base = workspace.find_experiment(name) or workspace.get_experiment(name)
    settings = schema.load_experiment(base.config_path)
    known, names_root = workspace.find_experiment(new), bool(data) or "data.root" in keys
    if "data.root" not in keys and (root := find_root(workspace, base, settings, data)) is not None:
        keys = {**keys, "data.root": root}
    content = variants.format_variant(base.name, base.config_path.read_text(encoding="utf-8"), keys)
    wanted = _parse(content, base.name)
    if known is None:
        made = workspace.plan_experiment(new, "--as")
        files.write_text(made.config_path, content)
        console.written(made.config_path, about=f": {_describe(settings, wanted)}")
        return made
    found = schema.load_experiment(known.config_path)
    if fits_epochs:
        wanted = wanted.with_epochs(found.train.epochs)
    if not names_root:
        wanted = wanted.model_copy(update={"data": wanted.data.model_copy(update={"root": found.data.root})})
    if found != wanted:
        raise ConfigError(
            f"the experiment {new} exists, and its config.toml is not that of {base.name} with these changes",
            problems=list_differences(found.model_dump(), wanted.model_dump()),
            hint=f"pass another name, such as {known.suggest_as()}; or omit --set and --as, and "
            f"pass --experiment {shlex.quote(new)}",
        )
    return workspace.get_experiment(new)


def find_root(workspace: Workspace, base: Experiment, settings: Config, data: str | None) -> str | None:
    """The data folder of --data, or the one that the experiment has used, if that is not its data.root; else None."""
    if data:
        return str(Path(data).resolve())
    root = sources.find_known_root(workspace, base, settings)
    return None if root is None else str(root.resolve())


def _change(experiment: Experiment, keys: Keys, *, restart: bool) -> None:
    """Changes keys in the config.toml of an experiment."""
    path = experiment.config_path
    before = schema.load_experiment(path)
    content = variants.change_keys(path.read_text(encoding="utf-8"), keys)
    after = _parse(content, experiment.name)
    if after == before:
        return
    if experiment.resolved_path.is_file() and not restart:
        changed = list_differences(before.build_identity(), after.build_identity())
        if changed:
            raise ExperimentError(
                f"experiment {experiment.name} is trained with other values; its folds would not match",
                problems=changed,
                hint=f"train another experiment: add {experiment.suggest_as()}",
            )
    files.write_text(path, content)
    console.written(path, about=f": {_describe(before, after)}")


def _parse(content: str, name: str) -> Config:
    """The checked settings in the text of a config.toml."""
    settings = schema.validate(tomllib.loads(content), name)
    setting_checks.check_settings(settings)
    return settings


def _describe(before: Config, after: Config) -> str:
    return ", ".join(list_differences(before.model_dump(), after.model_dump())) or "no change"
