"""Claim: `predict-onnx` scores images at 95 % or more of the rate that decoding and the network allow on all cores.

    python benchmarks/infer_speed.py [--images 64] [--rounds 3] [--size 256] [--folds 5] [--timm inference.py]

Five ResNet-18 of 256 px in one graph, with weights as timm starts them: speed does not depend on what they are. Every
way takes its turn on the same JPEGs of 256 and of 512 px, round by round, so that a noisy machine is as noisy for all:

- the notebook's way: Pillow, torchvision's transforms, a DataLoader, torch in fp32, one model after another;
- timm's own inference script, where a path to it is given (for measuring only; it is not part of this project);
- a plain loop over ONNX Runtime, image by image;
- OpenVINO's own asynchronous queue on images that are decoded already;
- ffdi, with each runtime that runs here, in fp32 and in int8; with a GPU also in fp16, and with each of its options.

The limit is 1 / (time to decode + time of the network), each measured alone on all cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnxruntime
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ffdi.config.schema import Config
from ffdi.core import machine
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.folders import list_folder
from ffdi.data.labels.table import Table
from ffdi.demo import portraits
from ffdi.ensemble import combine
from ffdi.ensemble.calibration import Calibration
from ffdi.export import onnx, quantize
from ffdi.inference import predict, select
from ffdi.inference.backend import Load, OpenGraph, Setup
from ffdi.models import detector
from ffdi.models.detector import Scorer

CORES = machine.count_cores()
LONGER = 4
"""So many times the images for what is quick: the last batches, which leave a core without work, must not count."""
MANY = 10_000
"""The number of images that runtimes prepare for; a benchmark has fewer, but measures a large job."""


class Way(NamedTuple):
    """A way to score so many images."""

    images: int
    run: Callable[[], object]


@dataclass
class Seed(Dataset[torch.Tensor]):
    """The notebook's images."""

    table: Table
    transform: Callable[[Image.Image], torch.Tensor]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.transform(Image.open(self.table.path(row)).convert("RGB"))


def main() -> None:
    """Draws, exports, takes turns and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--timm", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        networks = [network(asked.backbone, asked.size, fold) for fold in range(asked.folds)]
        models = graphs(networks, asked.size, root)
        print(f"{CORES} cores, {asked.folds} x {asked.backbone}, {asked.size} px, {asked.rounds} rounds")
        latency(networks, models, asked.size)
        for edge in (256, 512):
            folders = [jpegs(root / f"{edge}-{count}", edge, count) for count in (asked.images, LONGER * asked.images)]
            few, many = map(list_folder, folders)
            ways = throughput(networks, models, few, many, asked.size, asked.timm)
            report(edge, turns(ways, asked.rounds))


def network(backbone: str, size: int, fold: int) -> Scorer:
    """A Detector as export-onnx would load it."""
    torch.manual_seed(fold)
    config = Config.model_validate({"model": {"backbone": backbone, "pretrained": False, "size": size}})
    found = detector.prepare_for_inference(detector.build_detector(config.model, None).eval(), config, size)
    assert isinstance(found, Scorer)
    return found


def graphs(networks: Sequence[Scorer], size: int, root: Path) -> dict[str, Path]:
    """One graph of all folds in each precision; fp16 is for GPUs."""
    members = {f"fold_{fold}": one for fold, one in enumerate(networks)}
    weights = np.full(len(members), 1 / len(members))
    graph = onnx.Graph(members, weights, combine.make_equal_combination("mean", 1), Calibration("none")).eval()
    started = time.perf_counter()
    model = onnx.convert_to_onnx(graph, size)
    drawn = np.stack([cv2.resize(draw(number, 256), (size, size)) for number in range(32)])
    paths = {}
    gpu = any(runtime.numbered and not runtime.missing(0) for runtime in select.RUNTIMES.values())
    for name in ("fp32", "int8", *(["fp16"] if gpu else [])):
        paths[name] = root / f"{name}.onnx"
        onnx.save_graph(quantize.convert(name, model, lambda: drawn), paths[name], {})
        print(f"graph in {name}: {time.perf_counter() - started:.1f} s")
    return paths


def draw(number: int, edge: int) -> np.ndarray:
    """A portrait with a camera's grain, RGB uint8 [edge, edge, 3]."""
    large = cv2.resize(
        portraits.draw_portrait(np.random.default_rng([5, number]), 128), (edge, edge), interpolation=cv2.INTER_CUBIC
    )
    grain = np.random.default_rng(number).normal(0, 4, large.shape)
    pixels: np.ndarray = np.clip(large + grain, 0, 255).astype(np.uint8)
    return pixels


def jpegs(folder: Path, edge: int, count: int) -> Path:
    """JPEGs of that edge, of quality 92."""
    folder.mkdir()
    for number in range(count):
        pixels = cv2.cvtColor(draw(number, edge), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{number:05}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return folder


def throughput(
    networks: Sequence[Scorer], models: dict[str, Path], few: Table, many: Table, size: int, script: Path | None
) -> dict[str, Way]:
    """Every way to score images, by name."""
    ways = {
        "decode alone": Way(len(many), partial(decode, many, size)),
        "notebook": Way(len(few), partial(notebook, networks, few, size)),
    }
    if script:
        once = partial(timm_script, script, saved(networks, few.folder.parent), few, size)
        ways["timm's script"] = Way(len(few), once)
    session = onnxruntime.InferenceSession(str(models["fp32"]))
    ways["ONNX Runtime in a loop"] = Way(len(few), partial(loop, session, few, size))
    for kind, path in models.items():
        table = many if kind == "int8" else few
        pixels = np.stack([ResizePolicy(size).load(table.path(row)) for row in range(len(table))])
        for graph in opened(path, kind, Load(MANY, CORES, 1)):
            ways[f"network alone: {graph.device} {kind}"] = Way(len(table), partial(alone, graph, pixels))
            ways[f"ffdi: {graph.device} {kind}"] = Way(len(table), partial(ffdi, graph, table, size))
            if graph.runtime.startswith("openvino"):
                ways[f"queue alone: {graph.device} {kind}"] = Way(len(table), queue(path, graph.device, pixels))
    return ways


def opened(path: Path, kind: str, load: Load) -> Iterator[OpenGraph]:
    """The graph on each runtime that runs here and is used for its precision, with one option more each time."""
    for runtime in select.RUNTIMES.values():
        if runtime.offered and kind not in runtime.refused and not runtime.missing(0):
            options = runtime.options.get(kind, ())
            for count in range(len(options) + 1):
                yield runtime.open(path, 0, load, Setup(kind, options[:count]))


def decode(table: Table, size: int) -> None:
    """All cores decode and resize."""
    with ThreadPoolExecutor(CORES) as pool:
        for _ in pool.map(lambda row: ResizePolicy(size).load(table.path(row)), range(len(table))):
            pass


def alone(graph: OpenGraph, pixels: np.ndarray) -> None:
    """All cores run the graph on pixels that are there."""
    parts = [pixels[start : start + graph.batch] for start in range(0, len(pixels), graph.batch)]
    with ThreadPoolExecutor(graph.streams) as pool:
        for _ in pool.map(graph.run, parts):
            pass


def ffdi(graph: OpenGraph, table: Table, size: int) -> None:
    """What predict-onnx does between opening and writing."""
    for _ in predict.score_batches(table, [range(len(table))], ResizePolicy(size), graph, CORES):
        pass


def notebook(networks: Sequence[Scorer], table: Table, size: int) -> None:
    """One model after another, each over all images; torch in fp32."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    steps = [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(mean, std)]
    loader = DataLoader(Seed(table, transforms.Compose(steps)), batch_size=32, num_workers=CORES)
    for one in networks:
        backbone = one.detector.backbone
        with torch.no_grad():
            for batch in loader:
                torch.sigmoid(backbone(batch))


def timm_script(script: Path, checkpoints: list[Path], table: Table, size: int) -> None:
    """timm's inference.py as it is, once for each fold."""
    words = ["--model", "resnet18", "--num-classes", "1", "--input-size", "3", str(size), str(size)]
    words += ["--workers", str(CORES), "--device", "cpu", "--batch-size", "32", "--data-dir", str(table.folder)]
    for path in checkpoints:
        with tempfile.TemporaryDirectory() as results:
            command = [sys.executable, str(script), *words, "--checkpoint", str(path), "--results-dir", results]
            subprocess.run(command, check=True, capture_output=True)


def saved(networks: Sequence[Scorer], root: Path) -> list[Path]:
    """The folds' weights as timm's script reads them."""
    paths = [root / f"{fold}.pth" for fold in range(len(networks))]
    for one, path in zip(networks, paths, strict=True):
        torch.save(one.detector.backbone.state_dict(), path)
    return paths


def loop(session: onnxruntime.InferenceSession, table: Table, size: int) -> None:
    """What a user would write: image by image, with ONNX Runtime's own choice of threads."""
    for row in range(len(table)):
        session.run(None, {"images": ResizePolicy(size).load(table.path(row))[None]})


def queue(path: Path, name: str, pixels: np.ndarray) -> Callable[[], None]:
    """OpenVINO's asynchronous queue in throughput mode, as its own benchmark uses it."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    shape = model.input().get_partial_shape()
    shape[0] = batch = 4
    model.reshape(shape)
    hint = "bf16" if name.endswith("bf16") else "f32"
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": hint})
    requests = openvino.AsyncInferQueue(compiled)

    def run() -> None:
        for start in range(0, len(pixels), batch):
            requests.start_async([pixels[start : start + batch]])
        requests.wait_all()

    return run


def turns(ways: dict[str, Way], rounds: int) -> dict[str, np.ndarray]:
    """Seconds an image of each way in each round; every other round goes backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            ways[name].run()
            seconds[name].append((time.perf_counter() - started) / ways[name].images)
    return {name: np.array(taken) for name, taken in seconds.items()}


def report(edge: int, seconds: dict[str, np.ndarray]) -> None:
    """Rates, and ratios within each round: their median, lowest and highest."""
    print(f"\nJPEGs of {edge} px")
    print(f"{'':44}{'images/s':>9}  {'x notebook':>22}  {'of the limit':>22}")
    for name, taken in seconds.items():
        limit = None
        if name.startswith("ffdi: "):
            limit = seconds["decode alone"] + seconds[f"network alone: {name.removeprefix('ffdi: ')}"]
        cells = [spread(seconds["notebook"] / taken), spread(limit / taken) if limit is not None else ""]
        print(f"{name:44}{1 / np.median(taken):9.1f}  {cells[0]:>22}  {cells[1]:>22}")
    for name in seconds:
        if name.startswith("queue alone: "):
            kind = name.removeprefix("queue alone: ")
            limit = seconds["decode alone"] + seconds[name]
            print(f"ffdi: {kind} of decoding + OpenVINO's own queue: {spread(limit / seconds[f'ffdi: {kind}'])}")


def latency(networks: Sequence[Scorer], models: dict[str, Path], size: int, repeats: int = 15) -> None:
    """One image at a time, warm: torch's networks one after another against each runtime, in turns."""
    image = draw(0, size)[None]
    tensor = torch.from_numpy(image)

    def eager() -> None:
        with torch.inference_mode():
            for one in networks:
                one(tensor)

    ways = {"torch": Way(1, eager)}
    for kind, path in models.items():
        for graph in opened(path, kind, Load(1, 1, CORES)):
            ways[f"{graph.device} {kind}"] = Way(1, partial(graph.run, image))
    for way in ways.values():
        way.run()
    seconds = turns(ways, repeats)
    print("\none image, warm")
    for name, taken in seconds.items():
        print(f"{name:44}{1000 * np.median(taken):9.1f} ms  {spread(seconds['torch'] / taken)} x torch")


def spread(ratio: np.ndarray) -> str:
    """Median, lowest and highest."""
    return f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"


if __name__ == "__main__":
    main()
