"""Functions for the images and for trainings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ffdi.commands.shared.options import (
    DEFAULT,
    CacheOptions,
    DistillOptions,
    DoctorOptions,
    FindLrOptions,
    LandmarksOptions,
    PseudoLabelOptions,
    SweepOptions,
    TrainFoldsOptions,
)
from ffdi.notebook.keywords import Place, Places, run, takes_flags
from ffdi.notebook.results import DoctorResult, LrResult, Result, ScoreResult, SweepResult
from ffdi.notebook.settings import Settings, format_grid, format_settings


@takes_flags("doctor", DoctorOptions)
def doctor(
    experiment: Place = DEFAULT,
    *,
    data: Place | None = None,
    set: Settings | Sequence[str] | None = None,
    name: str | None = None,
    **flags: Any,
) -> DoctorResult:
    """Scans every image for problems that would spoil a training.

    Args:
        experiment: a name under experiments/, or a folder with a config.toml.
        data: the folder with the label files.
        set: keys of config.toml to change first, such as {"folds.k": 3}.
        name: the name of a new experiment with these changes.
        flags: see below.
    """
    from ffdi.commands import doctor

    given = {"experiment": experiment, "data": data, "set": format_settings(set), "name": name}
    return DoctorResult(run(doctor.run, DoctorOptions, given | flags))


@takes_flags("cache", CacheOptions)
def cache(experiment: Place = DEFAULT, *, data: Place | None = None, **flags: Any) -> Result:
    """Packs all images into one file, which is faster to read.

    Args:
        experiment: a name under experiments/, or a folder with a config.toml.
        data: the folder with the label files.
        flags: see below.
    """
    from ffdi.commands import cache

    return Result(run(cache.run, CacheOptions, {"experiment": experiment, "data": data} | flags))


@takes_flags("landmarks", LandmarksOptions)
def landmarks(
    experiment: Place = DEFAULT, *, model: Place | None = None, data: Place | None = None, **flags: Any
) -> Result:
    """Finds the faces' landmarks, for self-blending.

    Args:
        experiment: a name under experiments/, or a folder with a config.toml.
        model: MediaPipe's face mesh, face_landmark.tflite.
        data: the folder with the label files.
        flags: see below.
    """
    from ffdi.commands import landmarks

    given = {"experiment": experiment, "model": model, "data": data}
    return Result(run(landmarks.run, LandmarksOptions, given | flags))


@takes_flags("train-folds", TrainFoldsOptions)
def train(
    experiment: Places = DEFAULT,
    *,
    data: Place | None = None,
    set: Settings | Sequence[str] | None = None,
    name: str | None = None,
    folds: str | int | Sequence[int | str] | None = None,
    device: str | None = None,
    jobs: int | None = None,
    workers: int | None = None,
    accept: str | Sequence[str] | None = None,
    budget: str | None = None,
    max_time: str | None = None,
    restart: bool | None = None,
    **flags: Any,
) -> ScoreResult:
    """Trains k folds and scores every image out of fold. The same call continues an interrupted training.

    Args:
        experiment: a name under experiments/, or a folder with a config.toml; or several.
        data: the folder with the label files; it is remembered.
        set: keys of config.toml to change first, such as {"train.epochs": 3}.
        name: the name of a new experiment with these changes; without it they go into the experiment's config.toml.
        folds: the folds to train, such as [0, 2]; all by default.
        device: such as "cpu"; the fastest by default.
        jobs: folds at once.
        workers: loader processes.
        accept: problems of the data that you know of, such as ["leaks", "conflicts"].
        budget: the time for a new training, such as "8h": sets train.epochs to what fits into it.
        max_time: stop cleanly after this time, such as "8.5h"; then `finished` of the result is False.
        restart: delete all that these experiments have trained, and start again.
        flags: see below.

    Returns:
        `scores` is the table of out-of-fold scores.

    Raises:
        FFDIError: what is wrong, where, and the next step.
        Stopped: by the button of the notebook, after a checkpoint.
    """
    from ffdi.commands import train_folds

    given = {
        **{"experiment": experiment, "data": data, "set": format_settings(set), "name": name, "folds": folds},
        **{"device": device, "jobs": jobs, "workers": workers, "accept": accept},
        **{"budget": budget, "max_time": max_time, "restart": restart},
    }
    return ScoreResult(run(train_folds.run, TrainFoldsOptions, given | flags))


@takes_flags("find-lr", FindLrOptions)
def find_lr(
    experiment: Place = DEFAULT,
    *,
    data: Place | None = None,
    set: Settings | Sequence[str] | None = None,
    name: str | None = None,
    steps: int | None = None,
    **flags: Any,
) -> LrResult:
    """Finds a learning rate, with a chart of the losses.

    Args:
        experiment: a name under experiments/, or a folder with a config.toml.
        data: the folder with the label files.
        set: keys of config.toml to change first.
        name: the name of a new experiment with these changes.
        steps: training steps from the lowest rate to the highest.
        flags: see below.

    Returns:
        `rate` is the suggested learning rate, `values` the same for `train(set=...)`.
    """
    from ffdi.commands import find_lr

    given = {"experiment": experiment, "data": data, "set": format_settings(set), "name": name, "steps": steps}
    return LrResult(run(find_lr.run, FindLrOptions, given | flags))


@takes_flags("sweep", SweepOptions)
def sweep(
    experiment: Place = DEFAULT,
    *,
    set: Settings | Sequence[str] | None = None,
    data: Place | None = None,
    sampler: str | None = None,
    trials: int | None = None,
    **flags: Any,
) -> SweepResult:
    """Searches a few keys on one fold; losing trials end early.

    Args:
        experiment: a name under experiments/, or a folder with a config.toml.
        set: the values of each key, such as {"train.lr": [1e-4, 3e-4]} or {"train.lr": "1e-5..1e-2"}.
        data: the folder with the label files.
        sampler: grid, random, or tpe (Optuna).
        trials: the number of trials.
        flags: see below.

    Returns:
        `trials` has a row for each trial; `values` has the keys of the best one, if it is better than the experiment.
    """
    from ffdi.commands import sweep

    given = {"experiment": experiment, "set": format_grid(set), "data": data, "sampler": sampler, "trials": trials}
    return SweepResult(run(sweep.run, SweepOptions, given | flags))


@takes_flags("distill", DistillOptions)
def distill(
    experiment: Places = DEFAULT,
    *,
    student: str | None = None,
    set: Settings | Sequence[str] | None = None,
    **flags: Any,
) -> Result:
    """Makes a student that learns the scores of experiments.

    Args:
        experiment: the teachers.
        student: the name of the new experiment.
        set: settings of the student, such as {"model.backbone": "resnet34"}.
        flags: see below.
    """
    from ffdi.commands import distill

    given = {"experiment": experiment, "student": student, "set": format_settings(set)}
    return Result(run(distill.run, DistillOptions, given | flags))


@takes_flags("pseudo-label", PseudoLabelOptions)
def pseudo_label(
    experiment: Places = DEFAULT, *, images: Place | None = None, name: str | None = None, **flags: Any
) -> Result:
    """Scores images without labels with the networks of each fold, as more training images.

    Args:
        experiment: the teachers.
        images: "test" (the test split), a folder of images, or a CSV with a column img_name.
        name: the name of these pseudo-labels.
        flags: see below.
    """
    from ffdi.commands import pseudo_label

    given = {"experiment": experiment, "images": images, "name": name}
    return Result(run(pseudo_label.run, PseudoLabelOptions, given | flags))
