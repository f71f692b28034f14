"""What experiments learn from beside labels: teachers, and pseudo-labels by other experiments."""

from __future__ import annotations

from typing import Any

from ffdi.config import schema
from ffdi.config.schema import Config
from ffdi.core import console, manifests
from ffdi.core.errors import ExperimentError
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import scorecard
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace
from ffdi.reporting.sections import LineageRow


def describe_sources(config: Config) -> str:
    """What an experiment learns from, such as 'teachers a + b' or 'pseudo-labels round1'; '' for labels alone."""
    words = [f"teachers {' + '.join(config.distill.teachers)}"] if config.distill.teachers else []
    return ", ".join([*words, *([f"pseudo-labels {config.pseudo_labels.name}"] if config.pseudo_labels.name else [])])


def list_lineage(workspace: Workspace, ensemble: Ensemble) -> list[LineageRow]:
    """The scores of the experiments that these learn from, directly or not, then their own; nothing for labels alone.

    Experiments that are not in the workspace are left out, and those that cannot be read with a warning. The teachers
    of a student have a row together.
    """
    rows: dict[str, LineageRow] = {}
    if any(describe_sources(member.config) for member in ensemble.members):
        for experiment in ensemble.experiments:
            _add(workspace, experiment, rows)
    return list(rows.values())


def _add(workspace: Workspace, experiment: Experiment, rows: dict[str, LineageRow]) -> None:
    """Adds an experiment after those that it learns from."""
    config = schema.load_config(experiment.config_path)
    words = describe_sources(config)
    rows[experiment.name] = LineageRow(experiment.name, words, None, None)  # ends a circle
    taught = [workspace.find_experiment(name) for name in config.distill.teachers]
    labelled = [workspace.find_experiment(name) for name in _list_labellers(workspace, config)]
    for one in [*taught, *labelled]:
        if one is not None and one.name not in rows:
            _add(workspace, one, rows)
    del rows[experiment.name]
    here, together = [one for one in taught if one is not None], " + ".join(config.distill.teachers)
    if len(here) == len(taught) > 1:
        rows[together] = _score(together, "", here)
    rows[experiment.name] = _score(experiment.name, words, [experiment])


def _list_labellers(workspace: Workspace, config: Config) -> list[str]:
    """The experiments whose networks made the pseudo-labels."""
    if config.pseudo_labels.name is None:
        return []
    path = workspace.get_pseudo_labels(config.pseudo_labels.name).record_path
    networks: dict[str, list[dict[str, Any]]] = manifests.read_manifest(path)["networks"] if path.is_file() else {}
    return list(dict.fromkeys(one["experiment"] for part in networks.values() for one in part))


def _score(name: str, words: str, experiments: list[Experiment]) -> LineageRow:
    """The scores of experiments together: out of fold, and of what is exported on a labelled validation split."""
    try:
        ensemble = Ensemble.from_experiments(experiments)
    except ExperimentError as error:
        console.warn(f"no scores of {name}: {error.what}")
        return LineageRow(name, words, None, None)
    assignment, val = ensemble.assignment, ensemble.read_val_logits()
    oof = scorecard.score_predictions(assignment.target, ensemble.choice.y_pred, assignment.group)
    if val is None:
        return LineageRow(name, words, oof, None)
    return LineageRow(name, words, oof, scorecard.score_predictions(val[0].target, ensemble.combine(val[1]), None))
