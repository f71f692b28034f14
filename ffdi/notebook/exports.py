"""Functions for submissions and exported graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ffdi.commands.shared.options import (
    DEFAULT,
    EnsembleSubmitOptions,
    ExportOnnxOptions,
    KaggleBundleOptions,
    PredictOnnxOptions,
    SubmitOptions,
)
from ffdi.notebook.keywords import Place, Places, run, takes_flags
from ffdi.notebook.results import ExportResult, PredictionResult, Result, SubmissionResult


@takes_flags("ensemble-submit", EnsembleSubmitOptions)
def ensemble_submit(
    experiment: Places = DEFAULT, *, name: str | None = None, data: Place | None = None, **flags: Any
) -> SubmissionResult:
    """Averages all folds into a submission.

    Args:
        experiment: a name under experiments/, or a folder with a config.toml; or several.
        name: the folder under exports/.
        data: the folder with the label files.
        flags: see below.

    Returns:
        `submission` has its rows, `path` is the file to send.
    """
    from ffdi.commands import ensemble_submit

    given = {"experiment": experiment, "name": name, "data": data}
    return SubmissionResult(run(ensemble_submit.run, EnsembleSubmitOptions, given | flags))


@takes_flags("export-onnx", ExportOnnxOptions)
def export_onnx(
    experiment: Places = DEFAULT,
    *,
    name: str | None = None,
    data: Place | None = None,
    precision: str | None = None,
    soup: bool | None = None,
    runtimes: str | Sequence[str] | None = None,
    **flags: Any,
) -> ExportResult:
    """Puts all folds into one ONNX graph, and checks its scores.

    Args:
        experiment: a name under experiments/, or a folder with a config.toml; or several.
        name: the folder under exports/.
        data: the folder with the label files.
        precision: fp32, fp16 or int8.
        soup: one network for each experiment: the mean of its folds' weights, if its scores are as good.
        runtimes: the runtimes to test, such as ["cpu", "openvino"].
        flags: see below.
    """
    from ffdi.commands import export_onnx

    given = {
        **{"experiment": experiment, "name": name, "data": data},
        **{"precision": precision, "soup": soup, "runtimes": runtimes},
    }
    return ExportResult(run(export_onnx.run, ExportOnnxOptions, given | flags))


@takes_flags("predict-onnx", PredictOnnxOptions)
def predict_onnx(
    experiment: Places = DEFAULT,
    *,
    images: Place | None = None,
    output: Place | None = None,
    name: str | None = None,
    data: Place | None = None,
    device: str | None = None,
    **flags: Any,
) -> PredictionResult:
    """Scores images with the ONNX graph, without torch.

    Args:
        experiment: the experiments of the export.
        images: a folder of images, or a CSV with a column img_name; the experiment's test split by default.
        output: the CSV to write.
        name: the folder under exports/.
        data: the folder with the label files.
        device: the runtime, such as "cpu" or "openvino"; the fastest that gives the golden scores by default.
        flags: see below.

    Returns:
        `predictions` has the columns img_name and y_pred.
    """
    from ffdi.commands import predict_onnx

    given = {
        **{"experiment": experiment, "images": images, "output": output},
        **{"name": name, "data": data, "device": device},
    }
    return PredictionResult(run(predict_onnx.run, PredictOnnxOptions, given | flags))


@takes_flags("submit", SubmitOptions)
def submit(
    experiment: Places = DEFAULT,
    *,
    competition: str | None = None,
    message: str | None = None,
    name: str | None = None,
    dry_run: bool | None = None,
    **flags: Any,
) -> Result:
    """Checks a submission and sends it to Kaggle.

    Args:
        experiment: the experiments of the submission.
        competition: its name in its address on Kaggle.
        message: the description on Kaggle.
        name: the folder under exports/.
        dry_run: check everything, send nothing.
        flags: see below.
    """
    from ffdi.commands import submit

    given = {
        **{"experiment": experiment, "competition": competition, "message": message},
        **{"name": name, "dry_run": dry_run},
    }
    return Result(run(submit.run, SubmitOptions, given | flags))


@takes_flags("kaggle-bundle", KaggleBundleOptions)
def kaggle_bundle(
    experiment: Places = DEFAULT, *, name: str | None = None, wheels: bool | None = None, **flags: Any
) -> Result:
    """Makes one folder for notebooks on Kaggle and Colab; it needs a checkout of ffdi.

    Args:
        experiment: a name under experiments/, or a folder with a config.toml; or several.
        name: the folder under exports/.
        wheels: also download wheels of the dependencies, for a notebook without a network.
        flags: see below.
    """
    from ffdi.commands import kaggle_bundle

    given = {"experiment": experiment, "name": name, "wheels": wheels}
    return Result(run(kaggle_bundle.run, KaggleBundleOptions, given | flags))
