"""The public verbs. Bodies are a few lines; what is heavy is imported inside, so `invoke --list` stays instant."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from invoke import Context, Task, task
from invoke.exceptions import Exit

from ffdi.config import renamed
from ffdi.core import hints, machine
from ffdi.core.errors import ConfigError

if TYPE_CHECKING:
    from ffdi.commands.shared.engines import Engine
    from ffdi.core.errors import FFDIError
    from ffdi.experiments.workspace import Workspace

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
    "gpus_per_fold": "GPUs that train each fold together, by DistributedDataParallel (default: 1; on a CPU processes)",
    "engine": "local, or ray: as tasks on the machines of a Ray cluster",
    "address": ADDRESS,
}
MAX_TIME = "stop in good order after so long, as 90m or 8.5h; the same command goes on from there"
NAME = "the folder under exports/ (default: the experiments' names joined by +)"
GOES_ON = "nothing finished is lost; the same command does the rest"
DIGITS = 10
"""Numbers have fewer than these."""
SPLIT = "auto (test, or val where there is no test), test or val"
MANNERS = {
    "quiet": "say nothing but warnings and errors",
    "json": "say all in one line of JSON at the end, for programs",
}
"""Flags of every verb."""
REINSTALL = "install it again in this environment: pip install -e ."
TAKE_DATA: set[str] = set()
"""Commands that have the flag --data."""

try:
    renamed.refuse_flags(sys.argv[1:])
except ConfigError as error:
    raise Exit(f"error: {error}", code=1) from None


def verb(
    help: Mapping[str, str] | None = None, iterable: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Task[Any]]:
    """Makes a task of a function: with the flags that every verb has, and one clean message where it cannot go on."""

    def made(body: Callable[..., None]) -> Task[Any]:
        @wraps(body)
        def spoken(_context: Context, quiet: bool, json: bool, **flags: Any) -> None:
            def checked() -> None:
                _check_text(flags)
                body(**flags)

            name = body.__name__.replace("_", "-")
            with hints.carry_data(flags.get("data", ""), TAKE_DATA):
                _listen(name, json, checked) if quiet or json else _speak(checked)

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        context = inspect.Parameter("_context", kind)
        manners = [inspect.Parameter(name, kind, default=False) for name in MANNERS]
        flags = inspect.signature(body).parameters.values()
        if "data" in inspect.signature(body).parameters:
            TAKE_DATA.add(body.__name__.replace("_", "-"))
        spoken.__signature__ = inspect.Signature([context, *flags, *manners])  # type: ignore[attr-defined]
        flagged: Task[Any] = task(auto_shortflags=False, iterable=list(iterable), help={**(help or {}), **MANNERS})(
            spoken
        )
        return flagged

    return made


@verb(help={"experiment": EXPERIMENT, "data": DATA, "accept": ACCEPT})
def doctor(experiment: str = DEFAULT, data: str = "", accept: str = "") -> None:
    """Look at every image for what would spoil a run."""
    from ffdi.commands import doctor

    doctor.run(_workspace(), experiment, data=data or None, accept=accept or None)


@verb(
    help={
        "experiment": EXPERIMENT,
        "data": DATA,
        "yes": "do not ask before pixels are written (cache.decoded = true)",
        "restart": "throw the cache of these images away, and write it anew",
    },
)
def cache(experiment: str = DEFAULT, data: str = "", yes: bool = False, restart: bool = False) -> None:
    """Pack all images into one file, which is faster to read."""
    from ffdi.commands import cache

    cache.run(_workspace(), experiment, data=data or None, yes=yes, restart=restart)


@verb(
    iterable=["experiment"],
    help={
        "experiment": f"{EXPERIMENT} (default: {DEFAULT}); repeat it to train several",
        "data": DATA,
        "folds": "which folds, as 0,2 (default: all)",
        "device": DEVICE,
        **ENGINE,
        "workers": WORKERS,
        "accept": ACCEPT,
        "restart": "throw away what this experiment has trained, and begin anew",
        "profile": "train for a few steps only, and say where the time goes",
        "tensorboard": "write curves for TensorBoard, epoch by epoch, beside the folds",
        "max_time": MAX_TIME,
    },
)
def train_folds(
    experiment: list[str] | None = None,
    data: str = "",
    folds: str = "",
    device: str = "auto",
    jobs: str = "",
    gpus_per_fold: str = "",
    engine: str = "local",
    address: str = "",
    workers: str = "",
    accept: str = "",
    restart: bool = False,
    profile: bool = False,
    tensorboard: bool = False,
    max_time: str = "",
) -> None:
    """Train k folds and score every image out of fold."""
    from ffdi.commands import train_folds

    train_folds.run(
        _workspace(),
        experiment or [DEFAULT],
        data=data or None,
        folds=folds or None,
        device=device,
        engine=_engine(engine, address, jobs, gpus_per_fold),
        workers=_count("workers", workers),
        accept=accept or None,
        restart=restart,
        profiled=profile,
        tensorboard=tensorboard,
        max_time=max_time or None,
    )


@verb(
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
    experiment: str = DEFAULT,
    steps: str = "",
    data: str = "",
    device: str = "auto",
    workers: str = "",
    accept: str = "",
) -> None:
    """Find a learning rate, with a picture of the losses."""
    from ffdi.commands import find_lr
    from ffdi.commands.shared.planning import Flags

    find_lr.run(
        _workspace(),
        experiment,
        steps=_count("steps", steps),
        flags=Flags(data or None, device, _count("workers", workers), accept or None),
    )


@verb(
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
    experiment: str = DEFAULT,
    set: list[str] | None = None,
    sampler: str = "grid",
    trials: str = "",
    fold: str = "0",
    data: str = "",
    device: str = "auto",
    jobs: str = "",
    gpus_per_fold: str = "",
    engine: str = "local",
    address: str = "",
    workers: str = "",
    accept: str = "",
    max_time: str = "",
) -> None:
    """Search a few keys on one fold; losing trials end early."""
    from ffdi.commands import sweep
    from ffdi.commands.shared.planning import Flags

    sweep.run(
        _workspace(),
        experiment,
        words=set or [],
        sampler=sampler,
        trials=_count("trials", trials, 1),
        fold=_count("fold", fold) or 0,
        flags=Flags(data or None, device, _count("workers", workers), accept or None),
        engine=_engine(engine, address, jobs, gpus_per_fold),
        max_time=max_time or None,
    )


@verb(
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
    experiment: str = DEFAULT,
    stress: bool = False,
    shift: bool = False,
    data: str = "",
    device: str = "auto",
    workers: str = "",
) -> None:
    """Score the out-of-fold predictions again."""
    from ffdi.commands import score

    score.run(
        _workspace(),
        experiment,
        stressed=stress,
        shifted=shift,
        data=data or None,
        device=device,
        workers=_count("workers", workers),
    )


@verb(
    iterable=["experiment"],
    help={"experiment": EXPERIMENTS, "data": DATA, "device": DEVICE, "name": NAME},
)
def report(
    experiment: list[str] | None = None,
    data: str = "",
    device: str = "auto",
    name: str = "",
) -> None:
    """Write one page of scores, charts and telling images."""
    from ffdi.commands import report

    report.run(_workspace(), experiment or [DEFAULT], data=data or None, device=device, name=name or None)


@verb(
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
    experiment: list[str] | None = None,
    data: str = "",
    split: str = "auto",
    device: str = "auto",
    workers: str = "",
    name: str = "",
) -> None:
    """Average all folds into a submission CSV."""
    from ffdi.commands import ensemble_submit

    ensemble_submit.run(
        _workspace(),
        experiment or [DEFAULT],
        data=data or None,
        split=split,
        device=device,
        workers=_count("workers", workers),
        name=name or None,
    )


@verb(
    iterable=["experiment"],
    help={
        "experiment": f"whose submission: {EXPERIMENTS}",
        "competition": "as in its address on Kaggle",
        "message": "what Kaggle shows beside it (default: experiments, scores and hash)",
        "name": NAME,
        "allow_duplicate": "send the same scores a second time",
        "wait": "seconds to wait for the score (default: 300; 0 does not wait)",
        "dry_run": "check all, send nothing",
    },
)
def submit(
    experiment: list[str] | None = None,
    competition: str = "",
    message: str = "",
    name: str = "",
    allow_duplicate: bool = False,
    wait: str = "",
    dry_run: bool = False,
) -> None:
    """Send a submission to Kaggle, through the gate."""
    from ffdi.commands import submit

    submit.run(
        _workspace(),
        experiment or [DEFAULT],
        competition=competition,
        message=message or None,
        name=name or None,
        allow_duplicate=allow_duplicate,
        wait=_count("wait", wait),
        dry_run=dry_run,
    )


@verb(
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
    experiment: list[str] | None = None,
    data: str = "",
    name: str = "",
    precision: str = "fp32",
    soup: bool = False,
    runtimes: str = "",
) -> None:
    """Put all folds into one ONNX graph, proven equal."""
    from ffdi.commands import export_onnx

    export_onnx.run(
        _workspace(),
        experiment or [DEFAULT],
        data=data or None,
        name=name or None,
        precision=precision,
        soup=soup,
        runtimes=runtimes or None,
    )


@verb(
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
    from ffdi.commands import predict_onnx

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


@verb(
    iterable=["experiment"],
    help={
        "experiment": f"whose export: {EXPERIMENTS}",
        "name": NAME,
        "device": "as for predict-onnx",
        "host": "the address to listen on (default: 127.0.0.1, for this machine alone)",
        "port": "0 for one that is free (default: 8000); --json and --quiet say the address once it is listened on",
        "max_mb": "megabytes of an image (default: 20)",
    },
)
def serve(
    experiment: list[str] | None = None,
    name: str = "",
    device: str = "auto",
    host: str = "127.0.0.1",
    port: str = "",
    max_mb: str = "",
) -> None:
    """Show scores and heat maps in a browser."""
    from ffdi.commands import serve

    serve.run(
        _workspace(),
        experiment or [DEFAULT],
        name=name or None,
        device=device,
        host=host,
        port=_count("port", port),
        megabytes=_count("max-mb", max_mb, 1),
    )


@verb(
    iterable=["experiment"],
    help={
        "experiment": EXPERIMENTS,
        "name": NAME,
        "wheels": "fetch wheels of all that ffdi needs, torch excepted, for a notebook without a network",
    },
)
def kaggle_bundle(experiment: list[str] | None = None, name: str = "", wheels: bool = False) -> None:
    """Make one folder for offline Kaggle notebooks."""
    from ffdi.commands import kaggle_bundle

    kaggle_bundle.run(_workspace(), experiment or [DEFAULT], name=name or None, with_wheels=wheels)


@verb()
def leaderboard() -> None:
    """Show all experiments beside each other."""
    from ffdi.commands import leaderboard

    leaderboard.run(_workspace())


@verb(
    iterable=["experiment"],
    help={"experiment": "whose files, and whose export's; repeat it as for the export (default: all)", "name": NAME},
)
def verify(experiment: list[str] | None = None, name: str = "") -> None:
    """Check every file against the hash it was written with."""
    from ffdi.commands import verify

    verify.run(_workspace(), experiment or [], name=name or None)


def _workspace() -> Workspace:
    from ffdi.experiments.workspace import Workspace

    return Workspace.of(Path(__file__).resolve().parent)


def _engine(engine: str, address: str, jobs: str, gpus_per_fold: str) -> Engine:
    """Where folds are trained, as the flags of ENGINE have it."""
    from ffdi.commands.shared.engines import Engine

    return Engine(engine, address or None, _count("jobs", jobs, 1), _count("gpus-per-fold", gpus_per_fold, 1) or 1)


def _check_text(flags: Mapping[str, Any]) -> None:
    """Refuses flags that no file of ffdi could hold; Linux lets any bytes be words of a command."""
    from ffdi.core import names
    from ffdi.core.errors import ConfigError

    for name, value in flags.items():
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and not names.is_text(word):
                flag = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{flag} {word}: no UTF-8", hint="rename what it names; ffdi writes names as UTF-8")


def _count(flag: str, value: str, least: int = 0) -> int | None:
    """invoke would print a traceback for a bad number, so flags that count are read as words."""
    from ffdi.core.errors import ConfigError

    if not value:
        return None
    if not (value.isdecimal() and len(value) < DIGITS and int(value) >= least):
        what = f"{least} or more" if least else "a whole number"
        raise ConfigError(f"--{flag} {value}: not {what}", hint=f"pass --{flag} {least} or more")
    return int(value)


class Ending(NamedTuple):
    """Why a verb could not go on: for a person, and for a program; and the exit code."""

    words: str
    error: dict[str, Any]
    code: int


def _speak(body: Callable[[], None]) -> None:
    """Runs a verb for a person."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal knows every letter of a name
    if ending := _ended(body):
        raise Exit(ending.words, code=ending.code)


def _listen(name: str, json: bool, body: Callable[[], None]) -> None:
    """Runs a verb and says nothing before its end, but for what it announces: all that it came to in a line, or only
    what is amiss."""
    from ffdi.core import console

    def announce(facts: Mapping[str, str]) -> None:
        print(console.as_json(verb=name, **facts) if json else "\n".join(facts.values()), flush=True)

    if json and isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # as JSON is
    with console.capture_output(announce) as heard:
        ending = _ended(body)
    if json:
        print(heard.json(verb=name, error=ending.error if ending else None), flush=True)
    else:
        print("".join(f"warning: {what}\n" for what in heard.warnings), end="", file=sys.stderr)
    if ending:
        raise Exit("" if json else ending.words, code=ending.code)


def _ended(body: Callable[[], None]) -> Ending | None:
    """Why a verb could not go on, where a person can do something about it; a fault of ours keeps its traceback."""
    from ffdi.core.errors import ConfigError, FFDIError
    from ffdi.core.signals import Interrupted

    try:
        body()
    except Interrupted as stopped:
        return _ending(f"stopped ({stopped.why}): {GOES_ON}", stopped.code)
    except FFDIError as error:
        return _refused(error)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        return _refused(FFDIError(f"{what}{error.strerror or error}", hint=f"mend that; {GOES_ON}"))
    except KeyboardInterrupt:
        return _ending(f"stopped: {GOES_ON}", 130)
    except Exception as error:
        if machine.is_memory_error(error):
            return _refused(machine.explain_memory_error(error))
        if isinstance(error, ImportError) and not (error.name or "").startswith("ffdi"):
            return _refused(ConfigError(f"a library cannot be loaded: {error}", hint=REINSTALL))
        raise
    return None


def _refused(error: FFDIError) -> Ending:
    error.hint = hints.complete(error.hint)
    told = {"what": error.what, "problems": list(error.problems), "next": error.hint}
    return Ending(f"error: {error}", told, 1)


def _ending(words: str, code: int) -> Ending:
    return Ending(words, {"what": words, "problems": [], "next": "the same command"}, code)
