"""Makes the pictures of a report: example images with heat maps, thumbnails, and images as a training shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ffdi.config.schema import Config
from ffdi.core import console
from ffdi.data.images import cache, decode
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.labels.table import Table
from ffdi.ensemble.ensemble import Ensemble
from ffdi.reporting import face_parts, image_map, pictures, views
from ffdi.reporting.gallery import Exhibit
from ffdi.reporting.image_map import ImageMap
from ffdi.training.runtime.device import Device
from ffdi.training.tools import gradcam

BATCH = 16
"""Images in a batch of heat maps."""
FULL = 0.95
"""The quantile, among the largest values of all heat maps, that has the full colour."""
SHOWN = 16
"""The most images of a training batch."""


def make_exhibits(
    ensemble: Ensemble, table: Table, picked: Mapping[int, list[str]], device: Device
) -> tuple[list[Exhibit], str]:
    """The picked images with their heat maps, in the same order, and the method of the heat maps.

    Args:
        table: the training images, in the order of the ensemble's assignment.
        picked: of `gallery.pick_images`.
        device: for the heat maps.
    """
    rows = np.array(list(picked), np.int64)
    assignment, chosen = ensemble.assignment, table.take(rows)
    heats, method = _compute_heat_maps(ensemble, chosen, assignment.fold[rows], device)
    policy = ResizePolicy.from_config(ensemble.members[0].config.model)
    full = float(np.quantile(heats.max(axis=(1, 2)), FULL)) or 1.0
    whole, exhibits = policy.resize == "squash", []  # else the heat map covers a part of the image
    with console.bar("example images", len(rows), unit="images") as bar:
        for place, row in enumerate(rows.tolist()):
            pixels = decode.read_image(chosen.path(place))
            parts = face_parts.locate_parts(None if chosen.landmarks is None else chosen.landmarks[place])
            exhibits.append(
                Exhibit(
                    str(assignment.img_name[row]),
                    int(assignment.fold[row]),
                    int(assignment.target[row]),
                    float(ensemble.choice.y_pred[row]),
                    picked[row],
                    pictures.encode_picture(pixels if whole else policy.apply(pixels)),
                    pictures.encode_overlay(heats[place] / full),
                    views.render_views(pixels, parts),
                    face_parts.share_heat(heats[place], parts) if parts and whole else [],
                )
            )
            bar.advance()
    return exhibits, method


def make_map(ensemble: Ensemble, table: Table, features: np.ndarray, first: Sequence[int], seed: int) -> ImageMap:
    """The map of all training images.

    Args:
        table: the training images, in the order of the ensemble's assignment.
        features: float32 [N, C], of `image_map.compute_features`.
        first: rows that have a thumbnail in any case.
        seed: of the map.
    """
    assignment = ensemble.assignment
    rows = image_map.choose_thumbnails(len(table), list(first), seed)
    with console.bar("thumbnails for the map", len(rows), unit="images") as bar:

        def load(place: int) -> np.ndarray:
            bar.advance()
            return cache.read_pixels(table, rows[place])

        sheet = image_map.draw_sheet(len(rows), load)
    places = image_map.place_images(features, seed)
    y_pred = ensemble.choice.y_pred
    return ImageMap(assignment.img_name, places, assignment.target, assignment.kind, y_pred, rows, sheet)


def make_thumbnails(table: Table, names: Sequence[str]) -> dict[str, str]:
    """Data URLs of small pictures by image name; a name that the table lacks has none."""
    rows = table.rows(np.array(names, str))
    return {
        name: pictures.encode_picture(cache.read_pixels(table, row), pictures.THUMBNAIL_EDGE)
        for name, row in zip(names, rows.tolist(), strict=True)
        if row >= 0
    }


def show_training_batch(config: Config, table: Table, device: Device) -> list[tuple[str, str]]:
    """A small batch as the network of a training gets it: data URLs, and the labels.

    Args:
        config: of the training.
        table: its images, with what its pseudo-fakes need.
        device: that augments the images, if the recipe leaves that to it.
    """
    from ffdi.data.loading import loader
    from ffdi.training import inputs

    assert table.target is not None
    few = config.train.model_copy(update={"batch_size": min(SHOWN, config.train.batch_size)})
    config = config.model_copy(update={"train": few})
    batches = loader.make_train_loader(table, config, fold=0, loader_config=device.loader_config)
    batch = next(batches.iterate_epoch(0))
    images = inputs.make_images(batch, device).cpu().numpy()[: few.batch_size]  # views double them
    labels = zip(batch.target.tolist(), table.target[batch.index].tolist(), strict=True)
    words = ("real" if not shown else "fake" if own else "pseudo-fake" for shown, own in labels)
    return [(pictures.encode_picture(image), word) for image, word in zip(images, words, strict=False)]


def _compute_heat_maps(ensemble: Ensemble, table: Table, fold_of: np.ndarray, device: Device) -> tuple[np.ndarray, str]:
    """The evidence of the first experiment's networks for their class, float32 [n, h, w], and the method."""
    from ffdi.models import detector

    heats, method = np.zeros((len(table), gradcam.EDGE, gradcam.EDGE), np.float32), "HiResCAM"
    config, identity = ensemble.experiments[0].load_training()
    policy = ResizePolicy.from_config(config.model)
    with console.bar("heat maps", len(table), unit="images") as bar:
        for folder in ensemble.experiments[0].list_finished_folds(config.folds.k, identity):
            network = device.prepare(detector.load_detector(config.model, folder.weights_path))
            layer = gradcam.find_layer(network, policy.size)
            if layer is None:
                method = "gradient times input, because the backbone has no single map of features"
            for part in _split(np.flatnonzero(fold_of == folder.fold)):
                seen = np.stack([policy.load(table.path(row)) for row in part.tolist()])
                heats[part] = gradcam.compute_heat_map(network, seen, device, layer)
                bar.advance(len(part))
    return heats, method


def _split(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Parts of `BATCH` rows."""
    yield from (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
