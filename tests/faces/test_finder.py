"""From an image to the points of its face."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ffdi.data.labels.table import Table
from ffdi.faces import finder, networks
from ffdi.faces.finder import MARGIN, Face, FaceFinder
from ffdi.faces.networks import POINTS, Network
from tests import face_networks
from tests.face_networks import draw_disc


def measure(face: Face, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The middle of a face in pixels, and the distance of each point from it."""
    places = face.points * (shape[1], shape[0])
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    return middle, np.linalg.norm(places - middle, axis=1)


@pytest.mark.parametrize(
    ("shape", "centre", "radius"),
    [
        ((256, 256), (128, 140), 70),
        ((200, 320), (190, 90), 60),
        ((700, 500), (260, 330), 150),
        ((60, 60), (30, 28), 18),
    ],
)
def test_points_are_in_parts_of_the_whole_image(
    shape: tuple[int, int], centre: tuple[float, float], radius: float, mesh: Network
) -> None:
    face = FaceFinder(mesh).find(draw_disc(shape, centre, radius))
    assert face.points.shape == (POINTS, 2)
    assert face.presence > 0.99
    middle, distances = measure(face, shape)
    assert middle == pytest.approx(np.array(centre), abs=0.01 * radius)
    assert distances == pytest.approx(radius, rel=0.02)


def test_refinements_bring_the_face_to_its_usual_size_in_a_crop(mesh: Network) -> None:
    """The mesh sees a small face first, then one that takes two thirds of the crop."""
    seen: list[float] = []

    class Watched(Network):
        """Records which share of its input is bright."""

        def __init__(self) -> None:
            pass

        def run(self, pixels: np.ndarray) -> list[np.ndarray]:
            seen.append(float((pixels.mean(axis=2) > 0.6).mean()))
            return mesh.run(pixels)

    image = draw_disc((300, 300), (110, 190), 30)
    FaceFinder(Watched()).find(image)
    assert seen == pytest.approx([np.pi * 30**2 / (300 * MARGIN) ** 2, np.pi / 9, np.pi / 9], rel=0.05)


def test_an_image_without_a_face_has_no_presence(mesh: Network) -> None:
    face = FaceFinder(mesh).find(np.full((100, 100, 3), 40, np.uint8))
    assert face.presence < 0.01


def test_no_face_is_looked_for_in_a_strip(mesh: Network) -> None:
    assert FaceFinder(mesh).find(draw_disc((100, 400), (200, 50), 40)).presence > 0.9
    face = FaceFinder(mesh).find(draw_disc((100, 401), (200, 50), 40))
    assert np.isnan(face.presence)
    assert np.isnan(face.points).all()


def test_a_detector_chooses_among_faces_and_may_find_none(mesh: Network, tmp_path: Path) -> None:
    image = draw_disc((200, 400), (60, 100), 30)
    image[:, 200:] = draw_disc((200, 200), (130, 90), 30)
    corners = (np.array([[300, 60], [360, 120]]) - (200, 100)) / (400 * MARGIN) + 0.5  # around the disc on the right
    right = networks.open_network(face_networks.write_detector(tmp_path / "right.onnx", corners), "detector", 1)
    middle, distances = measure(FaceFinder(mesh, right).find(image), (200, 400))
    assert middle == pytest.approx(np.array([330, 90]), abs=1)
    assert distances == pytest.approx(30, rel=0.03)
    nobody = networks.open_network(face_networks.write_detector(tmp_path / "nobody.onnx", None), "detector", 1)
    found, expected = FaceFinder(mesh, nobody).find(image), FaceFinder(mesh).find(image)
    assert np.array_equal(found.points, expected.points)


def test_images_of_a_table_come_in_its_order_with_faults(mesh: Network, tmp_path: Path) -> None:
    names = np.array([f"{index}.png" for index in range(40)])
    for index, name in enumerate(names.tolist()):
        cv2.imwrite(str(tmp_path / name), draw_disc((64, 64), (24 + index / 2, 32), 14))
    (tmp_path / "7.png").write_bytes(b"")
    table = Table("train", tmp_path, names, None, None, tmp_path)
    found = list(finder.find_faces(table, FaceFinder(mesh), 2))
    assert [one.row for one in found] == list(range(40))
    assert {one.row: one.fault for one in found if one.fault} == {7: f"{tmp_path / '7.png'} is empty"}
    middles = [measure(one.face, (64, 64))[0] for one in found if not one.fault]
    assert np.allclose(middles, [(24 + index / 2, 32) for index in range(40) if index != 7], atol=0.4)
