"""The commands of `invoke`. A function imports its command when it is called, so that `invoke --list` is fast."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ffdi.commands.shared.options import (
    CacheOptions,
    CompareOptions,
    DistillOptions,
    DoctorOptions,
    EnsembleSubmitOptions,
    ExportOnnxOptions,
    FindLrOptions,
    KaggleBundleOptions,
    LandmarksOptions,
    LeaderboardOptions,
    PredictOnnxOptions,
    PseudoLabelOptions,
    ReportOptions,
    ScoreOptions,
    ServeOptions,
    SubmitOptions,
    SweepOptions,
    TrainFoldsOptions,
    VerifyOptions,
)
from ffdi.config import renames
from ffdi.core import cli
from ffdi.core.cli import command

if TYPE_CHECKING:
    from ffdi.experiments.workspace import Workspace

cli.refuse_renamed_flags(sys.argv[1:], renames.FLAGS)


@command(DoctorOptions)
def doctor(options: DoctorOptions) -> None:
    """Scan every image for problems that would spoil a training."""
    from ffdi.commands import doctor

    doctor.run(_workspace(), options)


@command(CacheOptions)
def cache(options: CacheOptions) -> None:
    """Pack all images into one file, which is faster to read."""
    from ffdi.commands import cache

    cache.run(_workspace(), options)


@command(LandmarksOptions)
def landmarks(options: LandmarksOptions) -> None:
    """Find the faces' landmarks, for self-blending."""
    from ffdi.commands import landmarks

    landmarks.run(_workspace(), options)


@command(TrainFoldsOptions)
def train_folds(options: TrainFoldsOptions) -> None:
    """Train k folds and score every image out of fold."""
    from ffdi.commands import train_folds

    train_folds.run(_workspace(), options)


@command(DistillOptions)
def distill(options: DistillOptions) -> None:
    """Make a student that learns the scores of experiments."""
    from ffdi.commands import distill

    distill.run(_workspace(), options)


@command(PseudoLabelOptions)
def pseudo_label(options: PseudoLabelOptions) -> None:
    """Score images without labels, as more training images."""
    from ffdi.commands import pseudo_label

    pseudo_label.run(_workspace(), options)


@command(FindLrOptions)
def find_lr(options: FindLrOptions) -> None:
    """Find a learning rate, with a chart of the losses."""
    from ffdi.commands import find_lr

    find_lr.run(_workspace(), options)


@command(SweepOptions)
def sweep(options: SweepOptions) -> None:
    """Search a few keys on one fold; losing trials end early."""
    from ffdi.commands import sweep

    sweep.run(_workspace(), options)


@command(ScoreOptions)
def score(options: ScoreOptions) -> None:
    """Score the out-of-fold predictions again."""
    from ffdi.commands import score

    score.run(_workspace(), options)


@command(CompareOptions)
def compare(options: CompareOptions) -> None:
    """Test if the scores of two experiments or files differ."""
    from ffdi.commands import compare

    compare.run(_workspace(), options)


@command(ReportOptions)
def report(options: ReportOptions) -> None:
    """Write one page of scores, charts and example images."""
    from ffdi.commands import report

    report.run(_workspace(), options)


@command(EnsembleSubmitOptions)
def ensemble_submit(options: EnsembleSubmitOptions) -> None:
    """Average all folds into a submission CSV."""
    from ffdi.commands import ensemble_submit

    ensemble_submit.run(_workspace(), options)


@command(SubmitOptions)
def submit(options: SubmitOptions) -> None:
    """Check a submission and send it to Kaggle."""
    from ffdi.commands import submit

    submit.run(_workspace(), options)


@command(ExportOnnxOptions)
def export_onnx(options: ExportOnnxOptions) -> None:
    """Put all folds into one ONNX graph, and check its scores."""
    from ffdi.commands import export_onnx

    export_onnx.run(_workspace(), options)


@command(PredictOnnxOptions)
def predict_onnx(options: PredictOnnxOptions) -> None:
    """Score images with the ONNX graph, without torch."""
    from ffdi.commands import predict_onnx

    predict_onnx.run(_workspace(), options)


@command(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Show scores and heat maps in a browser."""
    from ffdi.commands import serve

    serve.run(_workspace(), options)


@command(KaggleBundleOptions)
def kaggle_bundle(options: KaggleBundleOptions) -> None:
    """Make one folder for notebooks on Kaggle and Colab."""
    from ffdi.commands import kaggle_bundle

    kaggle_bundle.run(_workspace(), options)


@command(LeaderboardOptions)
def leaderboard(options: LeaderboardOptions) -> None:
    """Compare all experiments in one table."""
    from ffdi.commands import leaderboard

    leaderboard.run(_workspace(), options)


@command(VerifyOptions)
def verify(options: VerifyOptions) -> None:
    """Check every file against its recorded hash."""
    from ffdi.commands import verify

    verify.run(_workspace(), options)


def _workspace() -> Workspace:
    from ffdi.experiments.workspace import Workspace

    return Workspace.from_environment(Path(__file__).resolve().parent)
