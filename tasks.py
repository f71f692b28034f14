"""The public verbs. Bodies are a few lines; what is heavy is imported inside, so `invoke --list` stays instant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context, task
from invoke.exceptions import Exit

if TYPE_CHECKING:
    from ffdi.pipeline.engines import Engine

DEFAULT = "quickstart"
EXPERIMENT = "a name under experiments/, or a folder with a config.toml"
EXPERIMENTS = f"{EXPERIMENT} (default: {DEFAULT}); repeat it to take several together"
DATA = "the folder with the label files; overrides data.root of config.toml"
DEVICE = "auto, cpu, or cuda:N"
ACCEPT = "faults of the data that you know of, as leaks,conflicts (also unusable, shortcuts)"
WORKERS = "loader processes (default: none on a CPU, up to 8 beside a GPU)"
ADDRESS = "of the Ray cluster, or auto (default: one of this machine alone)"
ENGINE = {
    "jobs": "folds at once (default: one for each GPU; on a CPU as its cores and the folds allow)",
    "ranks": "GPUs that train each fold together, by DistributedDataParallel (default: 1; on a CPU processes)",
    "engine": "local, or ray: as tasks on the machines of a Ray cluster",
    "address": ADDRESS,
}
MAX_TIME = "stop in good order after so long, as 90m or 8.5h; the same command goes on from there"
NAME = "the folder under exports/ (default: the experiments' names joined by +)"
GOES_ON = "nothing finished is lost; the same command does the rest"
DIGITS = 10
"""Numbers have fewer than these."""
SPLIT = "auto (test, or val where there is no test), test or val"


@task(auto_shortflags=False, help={"experiment": EXPERIMENT, "data": DATA, "accept": ACCEPT})
def doctor(_context: Context, experiment: str = DEFAULT, data: str = "", accept: str = "") -> None:
    """Look at every image for what would spoil a run."""
    with _spoken():
        from ffdi.pipeline import doctor

        doctor.run(_workspace(), experiment, data=data or None, accept=accept or None)


@task(
    auto_shortflags=False,
    help={
        "experiment": EXPERIMENT,
        "data": DATA,
        "yes": "do not ask before pixels are written (cache.pixels = true)",
        "fresh": "throw the cache of these images away, and write it anew",
    },
)
def cache(_context: Context, experiment: str = DEFAULT, data: str = "", yes: bool = False, fresh: bool = False) -> None:
    """Pack all images into one file, which is faster to read."""
    with _spoken():
        from ffdi.pipeline import cache

        cache.run(_workspace(), experiment, data=data or None, yes=yes, fresh=fresh)


@task(
    auto_shortflags=False,
    iterable=["experiment"],
    help={
        "experiment": f"{EXPERIMENT} (default: {DEFAULT}); repeat it to train several",
        "data": DATA,
        "folds": "which folds, as 0,2 (default: all)",
        "device": DEVICE,
        **ENGINE,
        "workers": WORKERS,
        "accept": ACCEPT,
        "fresh": "throw away what this experiment has trained, and begin anew",
        "profile": "train for a few steps only, and say where the time goes",
        "max_time": MAX_TIME,
    },
)
def train_folds(
    _context: Context,
    experiment: list[str] | None = None,
    data: str = "",
    folds: str = "",
    device: str = "auto",
    jobs: str = "",
    ranks: str = "",
    engine: str = "local",
    address: str = "",
    workers: str = "",
    accept: str = "",
    fresh: bool = False,
    profile: bool = False,
    max_time: str = "",
) -> None:
    """Train k folds and score every image out of fold."""
    with _spoken():
        from ffdi.pipeline import train_folds

        train_folds.run(
            _workspace(),
            experiment or [DEFAULT],
            data=data or None,
            folds=folds or None,
            device=device,
            engine=_engine(engine, address, jobs, ranks),
            workers=_count("workers", workers),
            accept=accept or None,
            fresh=fresh,
            profiled=profile,
            max_time=max_time or None,
        )


@task(
    auto_shortflags=False,
    help={
        "experiment": EXPERIMENT,
        "steps": "from the lowest rate to the highest (default: 100)",
        "data": DATA,
        "device": DEVICE,
        "workers": WORKERS,
        "accept": ACCEPT,
    },
)
def find_lr(
    _context: Context,
    experiment: str = DEFAULT,
    steps: str = "",
    data: str = "",
    device: str = "auto",
    workers: str = "",
    accept: str = "",
) -> None:
    """Find a learning rate, with a picture of the losses."""
    with _spoken():
        from ffdi.pipeline import find_lr
        from ffdi.pipeline.planning import Flags

        find_lr.run(
            _workspace(),
            experiment,
            steps=_count("steps", steps),
            flags=Flags(data or None, device, _count("workers", workers), accept or None),
        )


@task(
    auto_shortflags=False,
    iterable=["set"],
    help={
        "experiment": EXPERIMENT,
        "set": "what to search, as train.lr=1e-4,3e-4 or train.lr=1e-5..1e-2; repeat it for several keys",
        "sampler": "grid (every combination), random, or tpe (Optuna)",
        "trials": "how many (default: all of a grid, else 16)",
        "fold": "the fold that is held out",
        "data": DATA,
        "device": DEVICE,
        **ENGINE,
        "workers": WORKERS,
        "accept": ACCEPT,
        "max_time": MAX_TIME,
    },
)
def sweep(
    _context: Context,
    experiment: str = DEFAULT,
    set: list[str] | None = None,
    sampler: str = "grid",
    trials: str = "",
    fold: str = "0",
    data: str = "",
    device: str = "auto",
    jobs: str = "",
    ranks: str = "",
    engine: str = "local",
    address: str = "",
    workers: str = "",
    accept: str = "",
    max_time: str = "",
) -> None:
    """Search a few keys on one fold; losing trials end early."""
    with _spoken():
        from ffdi.pipeline import sweep
        from ffdi.pipeline.planning import Flags

        sweep.run(
            _workspace(),
            experiment,
            words=set or [],
            sampler=sampler,
            trials=_count("trials", trials, 1),
            fold=_count("fold", fold) or 0,
            flags=Flags(data or None, device, _count("workers", workers), accept or None),
            engine=_engine(engine, address, jobs, ranks),
            max_time=max_time or None,
        )


@task(
    auto_shortflags=False,
    help={
        "experiment": EXPERIMENT,
        "stress": "also: how the AUC holds under compression, blur, shrinking and noise",
        "shift": "also: can the splits be told apart, and the AUC by kind of image",
        "data": f"{DATA}; for --stress and --shift",
        "device": DEVICE,
        "workers": WORKERS,
    },
)
def score(
    _context: Context,
    experiment: str = DEFAULT,
    stress: bool = False,
    shift: bool = False,
    data: str = "",
    device: str = "auto",
    workers: str = "",
) -> None:
    """Score the out-of-fold predictions again."""
    with _spoken():
        from ffdi.pipeline import score

        score.run(
            _workspace(),
            experiment,
            stressed=stress,
            shifted=shift,
            data=data or None,
            device=device,
            workers=_count("workers", workers),
        )


@task(
    auto_shortflags=False,
    iterable=["experiment"],
    help={"experiment": EXPERIMENTS, "data": DATA, "device": DEVICE, "name": NAME},
)
def report(
    _context: Context,
    experiment: list[str] | None = None,
    data: str = "",
    device: str = "auto",
    name: str = "",
) -> None:
    """Write one page of scores, charts and telling images."""
    with _spoken():
        from ffdi.pipeline import report

        report.run(_workspace(), experiment or [DEFAULT], data=data or None, device=device, name=name or None)


@task(
    auto_shortflags=False,
    iterable=["experiment"],
    help={
        "experiment": EXPERIMENTS,
        "data": DATA,
        "split": SPLIT,
        "device": DEVICE,
        "workers": WORKERS,
        "name": NAME,
    },
)
def ensemble_submit(
    _context: Context,
    experiment: list[str] | None = None,
    data: str = "",
    split: str = "auto",
    device: str = "auto",
    workers: str = "",
    name: str = "",
) -> None:
    """Average all folds into a submission CSV."""
    with _spoken():
        from ffdi.pipeline import ensemble_submit

        ensemble_submit.run(
            _workspace(),
            experiment or [DEFAULT],
            data=data or None,
            split=split,
            device=device,
            workers=_count("workers", workers),
            name=name or None,
        )


@task(
    auto_shortflags=False,
    iterable=["experiment"],
    help={
        "experiment": EXPERIMENTS,
        "data": f"{DATA}; the graph is proven on its images",
        "name": NAME,
        "precision": "fp32, fp16 or int8; fewer bits are kept only if the scores are worth as much",
        "soup": "one network for each experiment: the mean of its folds' weights, if it is worth as much",
        "runtimes": "which to prove, as cpu,openvino (default: all that run here, but tensorrt)",
    },
)
def export_onnx(
    _context: Context,
    experiment: list[str] | None = None,
    data: str = "",
    name: str = "",
    precision: str = "fp32",
    soup: bool = False,
    runtimes: str = "",
) -> None:
    """Put all folds into one ONNX graph, proven equal."""
    with _spoken():
        from ffdi.pipeline import export_onnx

        export_onnx.run(
            _workspace(),
            experiment or [DEFAULT],
            data=data or None,
            name=name or None,
            precision=precision,
            soup=soup,
            runtimes=runtimes or None,
        )


@task(
    auto_shortflags=False,
    iterable=["experiment"],
    help={
        "experiment": f"whose export: {EXPERIMENTS}",
        "images": "a folder of images, or a CSV with a column img_name (default: the experiment's test split)",
        "data": DATA,
        "split": SPLIT,
        "output": "the CSV to write (default: exports/<name>/onnx_scores.csv)",
        "device": "auto (the fastest that gives the golden scores), cpu, cuda:N, cuda-tf32:N, tensorrt:N, openvino, "
        "openvino-bf16",
        "engine": "local, or ray: on the machines of a Ray cluster",
        "address": ADDRESS,
        "name": NAME,
        "on_error": "stop, or score=0.5 to give images that cannot be used that score",
        "selftest": "score nothing; ask every runtime of this machine for the golden scores",
    },
)
def predict_onnx(
    _context: Context,
    experiment: list[str] | None = None,
    images: str = "",
    data: str = "",
    split: str = "auto",
    output: str = "",
    device: str = "auto",
    engine: str = "local",
    address: str = "",
    name: str = "",
    on_error: str = "stop",
    selftest: bool = False,
) -> None:
    """Score images with the ONNX graph, without torch."""
    with _spoken():
        from ffdi.pipeline import predict_onnx

        if selftest:
            predict_onnx.selftest(_workspace(), experiment or [DEFAULT], device=device, name=name or None)
            return
        predict_onnx.run(
            _workspace(),
            experiment or [DEFAULT],
            images=images or None,
            data=data or None,
            split=split,
            output=output or None,
            device=device,
            engine=_engine(engine, address, "", ""),
            name=name or None,
            on_error=on_error,
        )


@task(auto_shortflags=False)
def leaderboard(_context: Context) -> None:
    """Show all experiments beside each other."""
    with _spoken():
        from ffdi.pipeline import leaderboard

        leaderboard.run(_workspace())


@task(
    auto_shortflags=False,
    iterable=["experiment"],
    help={"experiment": "whose files, and whose export's; repeat it as for the export (default: all)", "name": NAME},
)
def verify(_context: Context, experiment: list[str] | None = None, name: str = "") -> None:
    """Check every file against the hash it was written with."""
    with _spoken():
        from ffdi.pipeline import verify

        verify.run(_workspace(), experiment or [], name=name or None)


def _workspace() -> Workspace:  # noqa: F821
    from ffdi.store.workspace import Workspace

    return Workspace.of(Path(__file__).resolve().parent)


def _engine(engine: str, address: str, jobs: str, ranks: str) -> Engine:
    """Where folds are trained, as the flags of ENGINE have it."""
    from ffdi.pipeline.engines import Engine

    return Engine(engine, address or None, _count("jobs", jobs, 1), _count("ranks", ranks, 1) or 1)


def _count(flag: str, value: str, least: int = 0) -> int | None:
    """invoke would print a traceback for a bad number, so flags that count are read as words."""
    from ffdi.errors import ConfigError

    if not value:
        return None
    if not (value.isdecimal() and len(value) < DIGITS and int(value) >= least):
        what = f"{least} or more" if least else "a whole number"
        raise ConfigError(f"--{flag} {value}: not {what}", hint=f"pass --{flag} {least} or more")
    return int(value)


@contextmanager
def _spoken() -> Iterator[None]:
    """Turns what a person can cause into one clean message and an exit code; a fault of ours keeps its traceback."""
    from ffdi.errors import FFDIError
    from ffdi.stopping import Stopped

    try:
        yield
    except Stopped as stopped:
        raise Exit(f"stopped ({stopped.why}): {GOES_ON}", code=stopped.code) from None
    except FFDIError as error:
        raise Exit(f"error: {error}", code=1) from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise Exit(f"error: {place}{error.strerror or error}\nnext: mend that; {GOES_ON}", code=1) from None
    except KeyboardInterrupt:
        raise Exit(f"stopped: {GOES_ON}", code=130) from None
