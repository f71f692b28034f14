"""The flags of every command: one options class for a command, each flag with its default and its help text."""

from __future__ import annotations

from dataclasses import dataclass

from ffdi.core.flags import flag

DEFAULT = "quickstart"
RAY_DEVICES = ("auto", "cpu", "cuda")
"""Values of --device with --engine ray."""
EXPERIMENT = "a name under experiments/, or a folder with a config.toml"


@dataclass(frozen=True)
class ExperimentOptions:
    """Flags of a command for one experiment."""

    experiment: str = flag(DEFAULT, EXPERIMENT, carried=True)


@dataclass(frozen=True)
class ExperimentsOptions:
    """Flags of a command for several experiments."""

    experiment: tuple[str, ...] = flag(
        (DEFAULT,), f"{EXPERIMENT}; repeat the flag for several experiments", carried=True
    )


@dataclass(frozen=True)
class TeachersOptions:
    """The flag for the experiments whose scores are learned."""

    experiment: tuple[str, ...] = flag((DEFAULT,), f"a teacher: {EXPERIMENT}; repeat the flag for several experiments")


@dataclass(frozen=True)
class ChangeOptions:
    """Flags of a command that can change keys of config.toml first."""

    set: tuple[str, ...] = flag(
        (), "a key of config.toml to change, such as train.epochs=3; repeat the flag for several keys"
    )
    as_: str | None = flag(
        None, "the name of a new experiment with these changes (default: they go into the experiment's config.toml)"
    )


@dataclass(frozen=True)
class ExportOptions(ExperimentsOptions):
    """Flags of a command for the folder of several experiments under exports/."""

    name: str | None = flag(
        None, "the folder under exports/ (default: the experiments' names joined by +)", carried=True
    )


@dataclass(frozen=True)
class DataOptions:
    """The flag for the data."""

    data: str | None = flag(
        None,
        "the folder with the label files (default: the one that the experiment was trained on, else data.root of "
        "config.toml)",
        carried=True,
    )


@dataclass(frozen=True)
class DeviceOptions:
    """The flag for the device that torch uses."""

    device: str = flag("auto", "auto, cpu, cuda:N, or mps (the GPU of a Mac)")


@dataclass(frozen=True)
class LoadingOptions(DataOptions, DeviceOptions):
    """Flags for images and for the device that scores them."""

    workers: int | None = flag(None, "loader processes (default: none on a CPU, up to 16 with a GPU)")


@dataclass(frozen=True)
class AcceptOptions:
    """The flag for known problems of the data."""

    accept: str | None = flag(
        None, "problems of the data that you know of, such as leaks,conflicts (also unusable, shortcuts)", commas=True
    )


@dataclass(frozen=True)
class TrainingOptions(LoadingOptions, AcceptOptions):
    """Flags of every training."""


@dataclass(frozen=True)
class SplitOptions:
    """The flag for the split to be scored."""

    split: str = flag("auto", "auto (test, or val if there is no test split), test or val")


@dataclass(frozen=True)
class RuntimeOptions:
    """The flag for the runtime of an exported graph."""

    device: str = flag(
        "auto",
        "auto (the fastest that gives the golden scores), cpu, cuda:N, cuda-tf32:N, tensorrt:N, "
        "openvino, openvino-bf16; cuda+nhwc+graph fixes the options of a GPU",
    )


@dataclass(frozen=True)
class ClusterOptions:
    """Flags for the place of the work."""

    engine: str = flag("local", "local, or ray: on the machines of a Ray cluster")
    address: str | None = flag(
        None, "the address of the Ray cluster, or auto (default: a cluster of this machine alone)"
    )


@dataclass(frozen=True)
class EngineOptions(TrainingOptions, ClusterOptions):
    """Flags of a command that trains folds, several at once."""

    jobs: int | None = flag(
        None,
        "folds at once (default: one for each GPU; on a CPU according to its cores and the folds)",
        least=1,
    )
    gpus_per_fold: int = flag(
        1, "GPUs that train each fold together, by DistributedDataParallel; on a CPU processes", least=1
    )
    max_time: str | None = flag(
        None, "stop cleanly after this time, such as 90m or 8.5h; the same command resumes the training"
    )


@dataclass(frozen=True)
class DoctorOptions(ExperimentOptions, ChangeOptions, DataOptions, AcceptOptions):
    """Flags of `doctor`."""

    reencoded: bool = flag(
        False,
        "also encode a sample of the images alike, and show how well marks and traces of the encoding predict the "
        "labels before and after",
    )


@dataclass(frozen=True)
class CacheOptions(ExperimentOptions, DataOptions):
    yes: bool = flag(False, "write decoded pixels without a question (cache.decoded = true)")
    restart: bool = flag(False, "delete the cache of these images and write it again")


@dataclass(frozen=True)
class LandmarksOptions(ExperimentOptions, DataOptions):
    model: str | None = flag(None, "MediaPipe's face mesh, face_landmark.tflite")
    detector: str | None = flag(
        None,
        "MediaPipe's face_detection_short_range.tflite, for images that are no crops of faces (default: each image is "
        "taken for a crop)",
    )
    output: str | None = flag(
        None, "the CSV to write (default: data.landmarks_file, or landmarks.csv in the data folder)"
    )
    presence: float = flag(0.5, "the least presence of a face, from 0 to 1; other images get no points")
    restart: bool = flag(False, "replace a file that this command did not write, or that was changed since")


@dataclass(frozen=True)
class TrainFoldsOptions(ExperimentsOptions, ChangeOptions, EngineOptions):
    folds: str | None = flag(
        None, "the folds to train, such as 0,2, or refit with folds.refit (default: all)", commas=True
    )
    restart: bool = flag(False, "delete all that these experiments have trained, and start again")
    budget: str | None = flag(
        None,
        "the time for new trainings, such as 30m or 8h: sets train.epochs in config.toml to what fits into it here",
    )
    profile: bool = flag(False, "train a few steps only, and show how long each part of a step takes")
    tensorboard: bool = flag(False, "write curves for TensorBoard, epoch by epoch, into the folders of the folds")


@dataclass(frozen=True)
class DistillOptions(TeachersOptions, LoadingOptions):
    student: str | None = flag(None, "the name of the new experiment")
    like: str | None = flag(None, "the experiment with the student's other settings (default: the first teacher)")
    set: tuple[str, ...] = flag(
        (), "a setting of the student, such as model.backbone=resnet34; repeat the flag for several keys"
    )


@dataclass(frozen=True)
class PseudoLabelOptions(TeachersOptions, LoadingOptions):
    images: str | None = flag(None, "test (the test split), a folder of images, or a CSV with a column img_name")
    name: str | None = flag(None, "the name of these pseudo-labels")
    confidence: float = flag(0.9, "the least probability of the likelier class, from 0.5 to 1", least=0.5)
    disagreement: float = flag(
        0.2, "the largest standard deviation of the networks' probabilities, from 0 to 0.5", most=0.5
    )
    per_class: int | None = flag(None, "the most images of each class in a set (default: all)", least=1)
    rules: bool = flag(False, "you have read the rules, and they allow training on test images; --images test needs it")


@dataclass(frozen=True)
class FindLrOptions(ExperimentOptions, ChangeOptions, TrainingOptions):
    steps: int = flag(100, "training steps from the lowest rate to the highest")
    judge: str = flag(
        "train",
        "train (the loss of the training images), or ood (the mean loss of kinds of fakes that are left out, over all "
        "folds)",
    )


@dataclass(frozen=True)
class SweepOptions(ExperimentOptions, EngineOptions):
    set: tuple[str, ...] = flag(
        (), "values to search, such as train.lr=1e-4,3e-4 or train.lr=1e-5..1e-2; repeat the flag for several keys"
    )
    sampler: str = flag("grid", "grid (every combination), random, or tpe (Optuna)")
    trials: int | None = flag(None, "the number of trials (default: all of a grid, else 16)", least=1)
    fold: int = flag(0, "the held-out fold")
    judge: str = flag(
        "heldout",
        "heldout (the AUC of one fold), or ood (the mean AUC of all folds, each of kinds that it leaves out)",
    )


@dataclass(frozen=True)
class ScoreOptions(ExperimentOptions, LoadingOptions):
    """Flags of `score`; those of `LoadingOptions` are for --stress, --reencoded and --shift."""

    stress: bool = flag(
        False, "also score the images under compression, blur, shrinking and noise (uses --data, --device, --workers)"
    )
    reencoded: bool = flag(
        False,
        "also score the images after all are encoded alike: how much of the AUC came from the encoding (uses --data, "
        "--device, --workers)",
    )
    shift: bool = flag(
        False,
        "also train a classifier to tell the splits apart, and show the AUC by kind of image (uses --data, --device, "
        "--workers)",
    )


@dataclass(frozen=True)
class CompareOptions:
    first: str = flag("", "an experiment, or a CSV with the columns img_name and y_pred", positional=True)
    second: str = flag("", "the same; it is compared with the first", positional=True)
    data: str | None = flag(
        None, "the folder with the label files, for the labels of CSVs, and to compare by further columns"
    )


@dataclass(frozen=True)
class ReportOptions(ExportOptions, DataOptions, DeviceOptions):
    """Flags of `report`; with --live, --data and --device have no effect."""

    live: bool = flag(
        False, "follow the training, which runs in another terminal, on a page that renews itself until it is finished"
    )


@dataclass(frozen=True)
class EnsembleSubmitOptions(ExportOptions, LoadingOptions, SplitOptions):
    """Flags of `ensemble-submit`."""


@dataclass(frozen=True)
class SubmitOptions(ExportOptions):
    competition: str | None = flag(None, "the competition's name in its address on Kaggle")
    message: str | None = flag(None, "the description on Kaggle (default: experiments, scores and hash)")
    allow_duplicate: bool = flag(False, "send the same scores a second time")
    wait: int = flag(300, "seconds to wait for the score; 0 does not wait")
    dry_run: bool = flag(False, "check everything, send nothing")
    kernel: str | None = flag(None, "for a code competition: the notebook OWNER/NAME that writes submission.csv")
    kernel_version: int | None = flag(None, "for a code competition: the notebook's version", least=1)


@dataclass(frozen=True)
class ExportOnnxOptions(ExportOptions, DataOptions, DeviceOptions):
    precision: str = flag("fp32", "fp32, fp16 or int8; a lower precision is used only if the scores are as good")
    soup: bool = flag(
        False, "one network for each experiment: the mean of its folds' weights, if its scores are as good"
    )
    runtimes: str | None = flag(
        None, "the runtimes to test, such as cpu,openvino (default: all that run here, except tensorrt)", commas=True
    )


@dataclass(frozen=True)
class PredictOnnxOptions(ExportOptions, DataOptions, SplitOptions, RuntimeOptions, ClusterOptions):
    images: str | None = flag(
        None, "a folder of images, or a CSV with a column img_name (default: the experiment's test split)"
    )
    output: str | None = flag(None, "the CSV to write (default: exports/<name>/onnx_scores.csv)")
    on_error: str = flag("stop", "stop, or score=0.5 to give this score to images that cannot be used")
    selftest: bool = flag(False, "score no images; compare every runtime of this machine with the golden scores")


@dataclass(frozen=True)
class ServeOptions(ExportOptions, RuntimeOptions):
    host: str = flag("127.0.0.1", "the address to listen on; the default serves this machine alone")
    port: int = flag(
        8000, "the port, or 0 for a free one; --json and --quiet print the address when the server listens"
    )
    max_mb: int = flag(40, "the largest size of an image in megabytes", least=1)
    landmarks: str | None = flag(
        None,
        "MediaPipe's face mesh, face_landmark.tflite, as for `landmarks`: the page then also says on which parts of "
        "the face a score rests",
    )
    allow_host: tuple[str, ...] = flag(
        (), "a host name that requests may have besides this machine's, such as that of a proxy; repeat the flag"
    )


@dataclass(frozen=True)
class KaggleBundleOptions(ExportOptions):
    wheels: bool = flag(
        False, "also download wheels of the dependencies that notebooks may lack, for a notebook without a network"
    )
    python: tuple[str, ...] = flag(
        ("3.12", "3.13"), "a Python version of notebooks: 3.12 is Kaggle's, 3.13 is Colab's; repeat the flag for both"
    )


@dataclass(frozen=True)
class LeaderboardOptions:
    all: bool = flag(False, "also show experiments that were never trained, and groups")


@dataclass(frozen=True)
class VerifyOptions(ExportOptions):
    experiment: tuple[str, ...] = flag(
        (), "an experiment to check, with its export; repeat the flag as for the export (default: all)"
    )
