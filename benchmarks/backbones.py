"""Claim: every family of timm's networks can be built, trained, scored and exported to an ONNX graph with the same
scores and a heat map, or one line before the training says why not.

    python benchmarks/backbones.py                     the smallest network of each of timm's modules; writes a table
    python benchmarks/backbones.py NAME [NAME ...]     these networks

For each network, with random weights, at 128 or 224 px or its own size, in a process of its own: the checks of
`train-folds`, one step of training, scores of seven images that are wider apart than `SPREAD`, the export, the same
scores by ONNX Runtime in batches of 1, 3 and 7, and a heat map of three images. Prints a table in Markdown with the
largest difference of a score, and ends with 1 if a network did neither. Two networks at once; an hour on two cores, of
which ten minutes are spent on the number of parameters of all networks.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch

if TYPE_CHECKING:
    from ffdi.config.schema import Config

AT_ONCE = 2
SECONDS = 1200
"""A network that takes longer counts as a fault."""
IMAGES = 7
ROUNDING = 4
"""A score may differ by more than the tolerance of `export-onnx` if the rounding of torch is that large: with random
weights some networks give images nearly equal scores, whose differences are enlarged, and with them the rounding."""
BATCHES = (1, 3, 7)
SIZES = (128, 224)
"""Edges of the images; networks that are made for one size are tried at the second."""
LOGIT_SPREAD, SPREAD = 0.4, 0.05
"""The standard deviation of the logits, and the smallest of the scores: an export that ignores its input would give
equal scores. A larger spread would enlarge rounding too: features of random weights hardly differ between images."""


def list_smallest() -> list[str]:
    """The network with the fewest parameters of each module of timm."""
    families = [timm.list_models(module=module) for module in timm.list_modules()]
    return [min(family, key=count_parameters) for family in families if family]


def count_parameters(name: str) -> int:
    try:
        with torch.device("meta"):
            network = timm.create_model(name)
    except (NotImplementedError, RuntimeError):  # some constructors compute with their weights
        network = timm.create_model(name)
    return sum(parameter.numel() for parameter in network.parameters())


def draw_images(size: int) -> np.ndarray:
    """Smooth noise of different scale, contrast and colour: uint8 [IMAGES, size, size, 3]."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(IMAGES):
        cells = int(rng.integers(2, 24))
        coarse = rng.normal(rng.uniform(0, 255, 3), rng.uniform(5, 90), (cells, cells, 3))
        rows = np.arange(size) * cells // size
        images.append(coarse[rows][:, rows] + rng.normal(0, rng.uniform(0, 40), (size, size, 3)))
    return np.clip(np.stack(images), 0, 255).astype(np.uint8)


def make_settings(name: str) -> Config:
    """A config with the network, at the first of `SIZES` that it takes, or at the size of its weights."""
    from ffdi.config.schema import Config
    from ffdi.core.errors import ConfigError
    from ffdi.models import detector, weights

    own = weights.get_published_size(name) or 224
    for size in [*(size for size in SIZES[weights.has_fixed_size(name) :] if size < own), own]:
        settings = Config.model_validate(
            {"model": {"backbone": name, "pretrained": False, "size": size}, "train": {"batch_size": 4, "lr": 1e-3}}
        )
        with suppress(ConfigError):
            detector.check_size(detector.build_detector(settings.model, None), "model.size", size)
            break
    return settings


def try_network(name: str) -> dict[str, Any]:
    """Takes one network all the way; `line` is what a user reads before the training."""
    from ffdi.commands.shared import planning
    from ffdi.commands.shared.options import TrainFoldsOptions
    from ffdi.core.errors import FFDIError
    from ffdi.data.loading.loader import Batch
    from ffdi.ensemble.calibration import Calibration
    from ffdi.ensemble.combine import Combination
    from ffdi.evaluation.predictions import sigmoid
    from ffdi.experiments.workspace import Workspace
    from ffdi.export import equivalence, onnx
    from ffdi.inference import onnxruntime
    from ffdi.inference.backend import Load
    from ffdi.models import detector as detectors
    from ffdi.training import loop, optim
    from ffdi.training.state import TrainingState
    from ffdi.training.tools import gradcam

    torch.set_num_threads(1)
    settings = make_settings(name)
    size = settings.model.size
    found: dict[str, Any] = {"size": size}
    with tempfile.TemporaryDirectory() as folder:
        try:
            device, _ = planning.choose_device(
                Workspace(Path(folder), Path(folder)), settings, TrainFoldsOptions(device="cpu", workers=0)
            )
        except FFDIError as error:
            return {**found, "line": error.what}
        images = draw_images(size)
        detector = device.prepare(detectors.build_initialized(settings, None))
        found["parameters"] = sum(parameter.numel() for parameter in detector.parameters())
        state = TrainingState.create(detector, settings.train, device)
        target = torch.arange(4, dtype=torch.float32) % 2
        batch = Batch(torch.from_numpy(images[:4]), target, torch.arange(4))
        state.detector.train()
        loss = loop.train_step(detector, state, batch, optim.create_loss(settings.train, 0.5), settings, device).loss
        assert torch.isfinite(loss), loss
        spread_scores(detector, images)
        scorer = detectors.prepare_for_inference(detector, settings, size)
        with torch.inference_mode():
            expected = sigmoid(scorer(torch.from_numpy(images)).numpy())
        found["spread"] = float(expected.std())
        assert found["spread"] >= SPREAD, f"the scores differ by {found['spread']:.2g} only"
        graph = onnx.Graph({"network": scorer}, np.ones(1), Combination("mean", np.ones(1)), Calibration("none"))
        start = time.perf_counter()
        try:  # as `check_exportable` does before the training
            onnx.save_graph(onnx.convert_to_onnx(graph.eval(), size), path := Path(folder) / "model.onnx", {})
        except FFDIError as error:
            return {**found, "line": error.what}
        found["seconds"] = time.perf_counter() - start
        opened = onnxruntime.open_on_cpu("cpu", path, 0, Load(IMAGES, 1, 1))
        scores = [np.concatenate([opened.run(images[at : at + n]) for at in range(0, IMAGES, n)]) for n in BATCHES]
        found["difference"] = float(np.abs(np.stack(scores) - expected).max())
        if found["difference"] > equivalence.TOLERANCE:
            with torch.inference_mode():
                exact = sigmoid(copy.deepcopy(scorer).double()(torch.from_numpy(images)).numpy())
            found["rounding"] = float(np.abs(exact - expected).max())
        layer = gradcam.find_layer(detector, size)
        heat = gradcam.compute_heat_map(detector, images[:3], device, layer)
        assert 0 < heat.max() < np.inf, "the heat map is empty"
        found["heat_map"] = "gradient times input" if layer is None else "HiResCAM"
    return found


def spread_scores(detector: Any, images: np.ndarray) -> None:
    """Scales the head of a network with random weights, whose scores are nearly equal otherwise.

    First BatchNorm gets the statistics of these images: with others, signals die out over many layers.
    """
    from ffdi.models import weights

    for module in detector.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        detector.train()(torch.from_numpy(images))
        detector.eval()
        logits = detector(torch.from_numpy(images))
        for layer in weights.list_last_layers(detector.backbone):
            layer.weight *= LOGIT_SPREAD / logits.std()
        logits = detector(torch.from_numpy(images))
        for layer in weights.list_last_layers(detector.backbone):
            if layer.bias is not None:
                layer.bias -= logits.mean()


def run_alone(name: str) -> dict[str, Any]:
    """`try_network` in a process of its own."""
    module = timm.models.model_entrypoint(name).__module__.rpartition(".")[2]
    command = [sys.executable, __file__, "--alone", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"module": module, "name": name, "fault": f"not ready after {SECONDS} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"module": module, "name": name, "fault": lines[-1]}
    return {"module": module, "name": name, **json.loads(done.stdout.splitlines()[-1])}


def format_row(found: dict[str, Any], tolerance: float) -> str:
    """A row of the table."""
    limit = max(tolerance, ROUNDING * found.get("rounding", 0.0))
    if found.get("difference", 0.0) > limit:
        found["fault"] = f"scores differ by {found['difference']:.2g}, of at most {limit:.2g}"
    if "parameters" not in found:
        found["parameters"] = count_parameters(found["name"])
    size = found.get("size", "")
    start = f"| {found['module']} | `{found['name']}` | {found['parameters'] / 1e6:.1f} M | {size} "
    if "fault" in found:
        return f"{start}| **{found['fault']}** | | |"
    if "line" in found:
        return f"{start}| {found['line']} | | |"
    rounding = f" (fp32 against fp64 in torch: {found['rounding']:.1e})" if "rounding" in found else ""
    return f"{start}| {found['difference']:.1e}{rounding} | {found['heat_map']} | {found['seconds']:.0f} s |"


def main() -> int:
    from ffdi.export import equivalence

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--alone", action="store_true", help="in this process, for the script itself")
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(try_network(given.names[0])))
        return 0
    print("| module of timm | network | parameters | size | largest difference of a score | heat map | export |")
    print("|---|---|---|---|---|---|---|", flush=True)
    results = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for found in pool.map(run_alone, given.names or list_smallest()):
            print(format_row(found, equivalence.TOLERANCE), flush=True)
            results.append(found)
    faults, refused = (sum(key in found for found in results) for key in ("fault", "line"))
    exported = len(results) - faults - refused
    print(f"\n{len(results)} networks: {exported} exported, {refused} refused before the training, {faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
