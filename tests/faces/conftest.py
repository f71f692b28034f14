"""Networks whose faces are bright discs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffdi.faces import networks
from ffdi.faces.networks import Network
from tests import face_networks


@pytest.fixture(scope="session")
def mesh_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return face_networks.write_mesh(tmp_path_factory.mktemp("mesh") / "mesh.onnx")


@pytest.fixture(scope="session")
def mesh(mesh_path: Path) -> Network:
    return networks.open_network(mesh_path, "mesh", 2)
