"""The steps `export` and `infer`: the scores and the speed of an exported graph on each runtime, against torch."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnxruntime
import torch
import train_speed

from ffdi.core import machine
from ffdi.data.images.cache import read_resized
from ffdi.data.images.resizing import ResizePolicy
from ffdi.ensemble import combine
from ffdi.ensemble.calibration import Calibration
from ffdi.export import equivalence, onnx, quantize
from ffdi.export.equivalence import Candidate, EquivalenceCheck, RuntimeVerifier
from ffdi.inference import bundle, select
from ffdi.inference.backend import Load, OpenGraph, Runtime, Setup
from ffdi.models import detector
from ffdi.models.detector import Scorer
from ffdi.training.runtime import device as devices
from gpu_steps import rates
from gpu_steps.run import Run
from gpu_steps.speed import prepare_course

TRAINED_STEPS = 10
"""Steps of each network: BatchNorm then has the statistics of real images, and the scores are not all alike."""
KINDS = ("fp32", "fp16")
"""The precisions of the graphs."""
JUDGED = 200
"""Largest number of images on which `export` compares metrics."""


def export(run: Run) -> None:
    """Exports all networks into one graph and checks it on each runtime, as export-onnx does."""
    networks, models = prepare_graphs(run)
    pixels = load_pixels(run)
    golden = pixels[equivalence.spread_rows(len(pixels), bundle.GOLDEN_IMAGES)]
    expected = networks.score(golden)
    y_pred = score_by_torch(run, run.device.prepare(networks), pixels)
    # the networks' own opinion is the label, without the third of the images on which it may change with a rounding
    low, high = np.quantile(y_pred, (1 / 3, 2 / 3))
    rows = np.flatnonzero((y_pred <= low) | (y_pred >= high))[:JUDGED]
    judged = replace(run.table.take(rows), target=(y_pred[rows] >= high).astype(np.int64))
    verifier = RuntimeVerifier(
        ResizePolicy(run.scale.size),
        exact=True,
        real=golden,
        expected=expected,
        equivalence=EquivalenceCheck(judged, y_pred[rows].astype(np.float64), bundle.OUTPUT, np.asarray),
        threads=machine.count_cores(),
        setup=Setup(),
    )
    for name, runtime in select.RUNTIMES.items():
        if reason := runtime.missing(0):
            run.record(name, None, note=f"does not run here: {reason}")
            continue
        with run.attempt(name):
            found = verifier.verify(Candidate("fp32", models["fp32"], models["fp32"]), name)
            for batch, difference in found["largest_difference"].items():
                run.record(f"{name}, largest difference, batch {batch}", difference, note=found["provider"])
            run.record(f"{name}, accepted within", found["limit"], ok=True, note=_describe_gate(found.get("gate")))


def _describe_gate(gate: dict[str, Any] | None) -> str:
    if gate is None:
        return "exact"
    changes = (f"{name} {gate[name]['fp32']:.4f} -> {gate[name]['here']:.4f}" for name in equivalence.LIMITS)
    return f"{', '.join(changes)} on {gate['images']} images"


def infer(run: Run) -> None:
    """Scores with torch and with ONNX Runtime in the same precision, in turns, and lists where each node runs."""
    networks, models = prepare_graphs(run)
    run.device.prepare(networks)
    pixels = load_pixels(run)
    for name in ["cpu"] if run.cpu else ["cuda", "cuda-tf32"]:
        runtime = select.RUNTIMES[name]
        if reason := runtime.missing(0):
            run.record(name, f"does not run here: {reason}", ok=False)
            continue
        for kind in (kind for kind in KINDS if kind not in runtime.refused):
            options = runtime.options.get(kind, ())
            for setup in (Setup(kind, options[:count]) for count in range(len(options) + 1)):
                title = f"{'+'.join([name, *setup.options])}, {kind}"
                with run.attempt(title):
                    _compare(run, title, runtime, setup, networks, models[kind], pixels)


def _compare(
    run: Run, title: str, runtime: Runtime, setup: Setup, networks: onnx.Graph, model: Path, pixels: np.ndarray
) -> None:
    """One runtime with a graph of one precision against torch in that precision."""
    kind = setup.precision
    with profile_sessions(run.root) as read_placement:
        graph = runtime.open(model, 0, Load(len(pixels), 1, machine.count_cores()), setup)
        found = graph.score(pixels)
        placement = read_placement()
    others = {provider: sum(nodes.values()) for provider, nodes in placement.items() if provider != graph.provider}
    run.record(f"{title}, nodes on {graph.provider}", sum(placement[graph.provider].values()))
    run.record(f"{title}, nodes elsewhere", sum(others.values()), ok=not others, note=_describe_nodes(placement, graph))
    with choose_precision(run, kind, exact=runtime.exact):
        expected = score_by_torch(run, networks, pixels)
        difference = float(np.abs(expected - found).max())
        within = difference <= equivalence.TOLERANCE if runtime.exact and kind == "fp32" else None
        run.record(f"{title}, largest difference on {len(pixels)} images", difference, ok=within)
        batch = pixels[np.resize(np.arange(len(pixels)), graph.batch)]
        graph = runtime.open(model, 0, Load(len(pixels), 1, machine.count_cores()), setup)  # without the profiler
        ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            f"{title}, torch": partial(score_by_torch, run, networks),
            f"{title}, ONNX Runtime": graph.run,
        }
        turns = {
            way: partial(rates.run_for, _repeat(score, batch), run.scale.seconds / 2, run.device)
            for way, score in ways.items()
        }
        rates.record_ratios(run, rates.take_turns(turns, run.scale.rounds), f"{title}, torch")


def _repeat(score: Callable[[np.ndarray], np.ndarray], batch: np.ndarray) -> Iterator[int]:
    for _ in repeat(None):
        score(batch)
        yield len(batch)


def _describe_nodes(placement: dict[str, Counter[str]], graph: OpenGraph) -> str:
    """The operators of the nodes that do not run on the graph's provider, '3 Shape on CPUExecutionProvider'."""
    return ", ".join(
        f"{number} {operator} on {provider}"
        for provider, nodes in placement.items()
        if provider != graph.provider
        for operator, number in nodes.items()
    )


@contextmanager
def choose_precision(run: Run, kind: str, *, exact: bool) -> Iterator[None]:
    """Inside, torch computes in the precision of a runtime with a graph of this kind."""
    # torch's default has TF32 in convolutions
    full: AbstractContextManager[object] = devices.disable_tf32() if exact else nullcontext()
    with full, replace(run.device, precision=kind).autocast():
        yield


@contextmanager
def profile_sessions(folder: Path) -> Iterator[Callable[[], dict[str, Counter[str]]]]:
    """Inside, new sessions of ONNX Runtime are profiled; its function ends them and counts operators by provider."""
    real, sessions = onnxruntime.InferenceSession, []

    def open_session(model: str, options: Any, **more: Any) -> Any:
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        sessions.append(real(model, options, **more))
        return sessions[-1]

    def read() -> dict[str, Counter[str]]:
        nodes: dict[str, tuple[str, str]] = {}
        for session in sessions:
            for event in json.loads(Path(session.end_profiling()).read_text()):
                if event.get("cat") == "Node" and "provider" in event.get("args", {}):
                    nodes[event["args"]["node_index"]] = event["args"]["provider"], event["args"]["op_name"]
        placement: dict[str, Counter[str]] = {}
        for provider, operator in nodes.values():
            placement.setdefault(provider, Counter())[operator] += 1
        return placement

    with mock.patch.object(onnxruntime, "InferenceSession", open_session):
        yield read


def prepare_graphs(run: Run) -> tuple[onnx.Graph, dict[str, Path]]:
    """Networks that were trained for a moment, as a torch module on the CPU, and their graphs by precision."""
    folder = run.root / "graphs"
    config = run.build_config()
    weights = [f"{fold}.safetensors" for fold in range(run.scale.folds)]
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)  # of a step that was stopped
        folder.mkdir()
        course = prepare_course(run)
        for name in weights:
            training = train_speed.start_training(course)
            batches = train_speed.make_batches(course, training.config, run.device.loader_config, "pixels")
            for _, batch in zip(range(TRAINED_STEPS), batches.iterate_epoch(0), strict=False):
                training.step(batch)
            detector.save_detector(training.state.detector, folder / name)
    scorers = {
        f"fold_{fold}": Scorer(detector.load_detector(config.model, folder / name), config.predict.tta)
        for fold, name in enumerate(weights)
    }
    equal = np.full(len(scorers), 1 / len(scorers))
    networks = onnx.Graph(scorers, equal, combine.make_equal_combination("mean", 1), Calibration("none")).eval()
    models = {kind: folder / f"{kind}.onnx" for kind in KINDS}
    if not (folder / "ready").exists():
        exported = onnx.convert_to_onnx(networks, run.scale.size)
        for kind, path in models.items():
            onnx.save_graph(quantize.convert(kind, exported, lambda: np.empty(0)), path, {})
        (folder / "ready").touch()
    return networks, models


def load_pixels(run: Run) -> np.ndarray:
    """uint8 [N, S, S, 3]: the images that are scored."""
    policy = ResizePolicy(run.scale.size)
    return np.stack([read_resized(run.table, row, policy) for row in range(min(run.scale.scored, len(run.table)))])


def score_by_torch(run: Run, networks: onnx.Graph, pixels: np.ndarray) -> np.ndarray:
    """y_pred float32 [N] by networks on the device."""
    with torch.inference_mode():
        parts = torch.from_numpy(pixels).split(run.scale.batch_size)
        return torch.cat([networks(run.device.send(part))[0].float() for part in parts]).cpu().numpy()
