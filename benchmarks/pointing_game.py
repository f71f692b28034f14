"""Claim: the hottest point of a report's heat map lies in what was changed more often than the mask's share of the
image, in every family of fakes.

    python benchmarks/pointing_game.py [--experiment quickstart] [--data FOLDER]

The experiment is trained ($FFDI_ROOT is heeded). Real images of the validation split, which no network has seen, are
changed by each family of ffdi/synthetic, so that the mask is known, and compressed once more. Every fold's network is
asked; what it calls real is left out. A pixel was changed where the mask is above a half. 95 % intervals: Wilson's.
Faces are at one place, and so does much of what is changed: next to it is how often one fixed point hits, the
hottest of the mean map of all families.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.stats import binomtest

from ffdi.commands.shared import sources
from ffdi.data.images import decode
from ffdi.data.images.resizing import ResizePolicy
from ffdi.experiments.workspace import Workspace
from ffdi.models import detector
from ffdi.synthetic.manipulations import MANIPULATIONS
from ffdi.training.runtime import device as devices
from ffdi.training.tools import gradcam

PROJECT = Path(__file__).resolve().parent.parent
QUALITY = 92


def main() -> None:
    """Forges, asks every network, and prints a line for each family."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--experiment", default="quickstart")
    parser.add_argument("--data")
    asked = parser.parse_args()
    workspace = Workspace.from_environment(PROJECT)
    experiment = workspace.get_experiment(asked.experiment)
    config, identity = experiment.load_training()
    val = sources.find_experiment_dataset(workspace, experiment, asked.data).split("val")
    assert val.target is not None
    resize_policy = ResizePolicy.from_config(config.model)
    real = [decode.read_image(val.path(row)) for row in np.flatnonzero(val.target == 0).tolist()]
    device = devices.choose_device("cpu", None, 0)
    networks = [
        device.prepare(detector.load_detector(config.model, folder.weights_path))
        for folder in experiment.list_finished_folds(config.folds.k, identity)
    ]
    sets = {family: make_fakes(family, real, resize_policy) for family in MANIPULATIONS}
    played = {family: [play(network, *one, device) for network in networks] for family, one in sets.items()}
    mean = np.mean([heat.mean(0) for games in played.values() for heat, _ in games if len(heat)], axis=0)
    print(f"{'family':18}{'called fake':>12}{'share of mask':>15}{'hits':>8}{'95 %':>18}{'one fixed point':>18}")
    for family, games in played.items():
        heat, masks = (np.concatenate(parts) for parts in zip(*games, strict=True))
        flat = masks.reshape(len(masks), -1)
        hits = flat[np.arange(len(flat)), heat.reshape(len(heat), -1).argmax(1)]
        spread = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
        interval, fixed = f"{spread.low:.3f} to {spread.high:.3f}", flat[:, mean.argmax()].mean()
        print(f"{family:18}{len(hits):12}{flat.mean():15.3f}{hits.mean():8.3f}{interval:>18}{fixed:18.3f}", flush=True)


def make_fakes(family: str, real: list[np.ndarray], resize_policy: ResizePolicy) -> tuple[np.ndarray, np.ndarray]:
    """Fakes uint8 [N, S, S, 3] as a network is given them, and what was changed, bool [N, 56, 56]."""
    rng = np.random.default_rng(0)
    fakes, masks = [], []
    for number, pixels in enumerate(real):
        fake, mask = MANIPULATIONS[family](pixels, real[number - 1], rng)
        content = cv2.imencode(".jpg", fake[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        fakes.append(resize_policy.apply(decode.decode(content, family)))
        masks.append(cv2.resize(mask, (gradcam.EDGE, gradcam.EDGE), interpolation=cv2.INTER_AREA) > 0.5)
    return np.stack(fakes), np.stack(masks)


def play(
    network: detector.Detector, fakes: np.ndarray, masks: np.ndarray, device: devices.Device
) -> tuple[np.ndarray, np.ndarray]:
    """Heat maps float32 [n, 56, 56] of the fakes that a network calls so, and their masks."""
    with torch.inference_mode():
        called = network(torch.from_numpy(fakes)).numpy() > 0
    heat = gradcam.compute_heat_map(network, fakes[called], device, gradcam.find_layer(network, fakes.shape[1]))
    strongest = np.maximum(heat.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    return heat / strongest, masks[called]  # each image counts alike in the mean of the maps


if __name__ == "__main__":
    main()
