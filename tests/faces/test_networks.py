"""Files of networks: which are opened, and why others are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ffdi.core.errors import ConfigError, DeviceError
from ffdi.faces import detection, networks
from ffdi.faces.networks import Network
from tests import face_networks
from tests.face_networks import SIZE, draw_disc


def test_outputs_come_in_the_order_of_the_kind(mesh: Network, tmp_path: Path) -> None:
    points, logit = mesh.run(draw_disc((SIZE, SIZE), (96, 100), 40).astype(np.float32) / 255)
    assert (points.shape, logit.shape, points.dtype, logit.dtype) == ((1404,), (1,), np.float32, np.float32)
    assert np.allclose(points.reshape(468, 3)[[33, 263]], [[56, 100, 0], [136, 100, 0]], atol=0.6)
    assert logit[0] > 10
    path = face_networks.write_detector(tmp_path / "detector.onnx", np.array([[0.2, 0.3], [0.6, 0.9]]))
    values, logits = networks.open_network(path, "detector", 1).run(np.zeros((128, 128, 3), np.float32))
    box = detection.find_best_box(values.reshape(896, 16), logits)
    assert box is not None
    assert np.allclose(box.corners, [[0.2, 0.3], [0.6, 0.9]], atol=1e-6)


def test_parallel_calls_get_their_own_points(mesh: Network) -> None:
    centres = [(60 + 3 * index, 90 + index) for index in range(24)]
    images = [draw_disc((SIZE, SIZE), centre, 30).astype(np.float32) / 255 for centre in centres]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(mesh.run, images))
    middles = [points.reshape(468, 3)[[33, 263], :2].mean(axis=0) for points, _ in found]
    assert np.allclose(middles, centres, atol=0.3)


def write_text(path: Path) -> Path:
    path.write_text("not a network\n")
    return path


def write_damaged(path: Path) -> Path:
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)))
    return path


REFUSED: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "a text": ("mesh.tflite", write_text, 'cannot be read by OpenVINO: Unable to read the model: .+mesh.tflite"'),
    "a text as ONNX": ("mesh.onnx", write_text, 'cannot be read by OpenVINO: Unable to read the model: .+mesh.onnx"'),
    "damaged": ("mesh.tflite", write_damaged, "cannot be read by OpenVINO: .+ is corrupted or malformed .+"),
    "another network": (
        "mesh.onnx",
        lambda path: face_networks.write_detector(path, None),
        re.escape(
            "takes f32 [1,128,128,3] and gives f32 [1,896,1], f32 [1,896,16]; expected f32 [1,192,192,3], and outputs "
            "of 1404 and 1 numbers"
        ),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_no_mesh_is_refused(case: str, tmp_path: Path) -> None:
    name, write, fault = REFUSED[case]
    path = write(tmp_path / name)
    with pytest.raises(ConfigError) as caught:
        networks.open_network(path, "mesh", 1)
    assert re.fullmatch(
        f"--model {re.escape(str(path))} is not a face mesh that can be used: it {fault}", caught.value.what
    )
    assert caught.value.hint == "pass --model face_landmark.tflite; docs/data.md says where it comes from"


def test_files_that_need_not_be_opened_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--detector .+/none is not a file"):
        networks.open_network(tmp_path / "none", "detector", 1)
    (tmp_path / "mesh").write_bytes(bytes(100))
    with pytest.raises(ConfigError, match=r"--model .+/mesh: its name ends neither in .tflite nor in .onnx"):
        networks.open_network(tmp_path / "mesh", "mesh", 1)
    large = tmp_path / "large.tflite"
    large.write_bytes(bytes(100))
    monkeypatch.setattr(networks, "MAX_BYTES", 99)
    with pytest.raises(ConfigError, match=r"--model .+/large.tflite has 100 bytes; the limit is 99"):
        networks.open_network(large, "mesh", 1)
    monkeypatch.setattr(networks, "find_spec", lambda _name: None)
    with pytest.raises(DeviceError) as caught:
        networks.open_network(large, "mesh", 1)
    assert str(caught.value) == "openvino is not installed\nnext: pip install -e '.[openvino]'"
