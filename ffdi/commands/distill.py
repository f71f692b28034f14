"""Makes a student: a new experiment that learns the out-of-fold scores of trained experiments, its teachers."""

from __future__ import annotations

from ffdi.commands.shared import changes, groups, planning, sources, teacher_features, teachers
from ffdi.commands.shared.options import DistillOptions
from ffdi.config import variants
from ffdi.config.variants import Keys
from ffdi.core import console, files
from ffdi.core.errors import ConfigError, format_count
from ffdi.ensemble.ensemble import Ensemble
from ffdi.evaluation import score_names
from ffdi.experiments.workspace import Workspace

CORRECT = "correct --set, or name another experiment with --like"


def run(workspace: Workspace, options: DistillOptions) -> None:
    """Writes config.toml and teachers.csv of a student, which train-folds then trains.

    Raises:
        ConfigError: --student is missing or taken, or a key of --set is unknown or does not accept its value.
        ExperimentError: a teacher is not trained.
    """
    if not options.student:
        raise ConfigError("--student is missing", hint="pass --student NAME, the name of the new experiment")
    student = workspace.plan_experiment(options.student, "--student")
    words, _ = groups.resolve_experiments(workspace, options.experiment)
    groups.write_group_variants(workspace, options.experiment)
    names = [workspace.get_experiment(word).reference for word in words]
    ensemble = teachers.load_teachers(workspace, names)
    base = workspace.get_experiment(options.like or words[0])
    keys = _list_keys(ensemble, names)
    teacher = ensemble.experiments[0]
    if (root := changes.find_root(workspace, teacher, ensemble.members[0].config, options.data)) is not None:
        keys["data.root"] = root
    keys |= changes.parse_keys(options.set)
    settings = planning.make_variant(base, keys, CORRECT)
    teacher_features.check_features(settings, ensemble.experiments)
    content = variants.format_variant(base.name, base.config_path.read_text(encoding="utf-8"), keys)
    console.title(f"distill {student.name}: {format_count(len(names), 'teacher')}")
    _show(ensemble)
    dataset = sources.find_ensemble_dataset(workspace, ensemble, options.data)
    train = sources.select_images(dataset.split("train"), ensemble.assignment)
    device = planning.choose_scoring_device(options, [one.config for one in ensemble.members])
    console.say(f"device: {device.why}")
    with student.lock():
        teachers.write_scores(student, ensemble, train, device)
        files.write_text(student.config_path, content)  # comes last: without it there is no experiment
    console.written(student.config_path)
    console.advise(f"invoke train-folds --experiment {student.argument}")


def _list_keys(ensemble: Ensemble, names: list[str]) -> Keys:
    """The keys in which a student differs from the experiment that it is like: its folds are those of its teachers."""
    config, _ = ensemble.experiments[0].load_training()
    folds = config.folds
    return {
        "folds.k": folds.k,
        "folds.scheme": folds.scheme,
        "folds.split_groups": folds.split_groups,
        "folds.seed": config.folds_seed,
        "folds.refit": True,
        "train.select": "last",
        "distill.teachers": names,
    }


def _show(ensemble: Ensemble) -> None:
    """The out-of-fold AUC of each teacher, and of all together as the student sees them."""
    rows: list[tuple[object, ...]] = [(name, auc) for name, auc in ensemble.compute_fold_aucs().items()]
    if len(rows) > 1:
        rows += [(f"all, by {row.method}", row.auc) for row in ensemble.choice.rows if row.method == ensemble.method]
    console.table(f"AUC of the teachers ({score_names.MEAN_OF_FOLDS})", ["", "AUC"], rows)
