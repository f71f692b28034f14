"""Writes a data set with five kinds of fakes, to measure how networks meet a kind that they have never seen.

    python benchmarks/five_kinds.py --stylegan FOLDER --dfdc FOLDER --encoder taef2_encoder.pth
        --decoder taef2_decoder.pth --output FOLDER [--onnx FILE] [--images 200] [--seed 0]

--stylegan has StyleGAN's faces against photographs, --dfdc face swaps with groups.csv, both in FFDI layout; the weights
are those of TAEF2, a tiny autoencoder (madebyollin/taesd); --onnx writes it for pseudo_fakes.autoencoder. The kinds,
--images of each:

- stylegan: as they are;
- swap: face swaps of DFDC, with the real images of the same groups;
- reconstruction: photographs through the autoencoder;
- self_blend: photographs by pseudo_fakes.self_blend;
- family: photographs by the four families of pseudo_fakes, in equal parts.

Each photograph is the source of one fake at most, and a fourth of them are the source of none; all are in the set as
real images. Every image, real or fake, is decoded and encoded once more with the JPEG tables of its source, so that the
encoding tells nothing. trainset_label.txt has the columns kind and made_of, and groups.csv joins a fake to its source.
Then

    invoke train-folds --experiment NAME --data FOLDER

with data.kind_column = "kind", folds.scheme = "leave-kind-out" and folds.k = 5 shows the AUC of each kind.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, JpegImagePlugin
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ffdi.config.schema import Config
from ffdi.core import csvs
from ffdi.data.labels import layout
from ffdi.data.labels.table import Table
from ffdi.synthetic.manipulations import MANIPULATIONS
from ffdi.synthetic.pseudo_fakes import METHODS


class Row(NamedTuple):
    """An image of the set, and where it comes from."""

    img_name: str
    target: int
    kind: str
    made_of: str
    group: str


def main() -> None:
    """Chooses, makes and writes the images."""
    parser = argparse.ArgumentParser()
    for name in ("--stylegan", "--dfdc", "--encoder", "--decoder", "--output"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    folder = asked.output / "trainset"
    folder.mkdir(parents=True)
    rng, rows = np.random.default_rng(asked.seed), list[Row]()
    rows += write_swaps(find_train(asked.dfdc), folder, asked.images, rng)
    rows += write_faces(find_train(asked.stylegan), folder, asked, rng)
    rows.sort()
    labels = [("img_name", "target", "kind", "made_of"), *(row[:4] for row in rows)]
    (asked.output / "trainset_label.txt").write_text(csvs.format_csv(labels))
    groups = [("img_name", "group"), *((row.img_name, row.group) for row in rows)]
    (asked.output / "groups.csv").write_text(csvs.format_csv(groups))
    if asked.onnx is not None:
        Autoencoder(asked.encoder, asked.decoder).export(asked.onnx)
    kinds, counts = np.unique([row.kind or "real" for row in rows], return_counts=True)
    print(", ".join(f"{kind} {count}" for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)))


def find_train(folder: Path) -> Table:
    return layout.find_dataset(folder, Config().data).split("train")


def write_swaps(table: Table, folder: Path, images: int, rng: np.random.Generator) -> list[Row]:
    """Fakes and real images of groups that have both, until there are enough fakes; one fake of each group."""
    assert table.target is not None
    assert table.group is not None
    rows: list[Row] = []
    for group in rng.permutation(np.unique(table.group)).tolist():
        members = np.flatnonzero(table.group == group)
        fakes, reals = (members[table.target[members] == label] for label in (1, 0))
        if not len(fakes) or not len(reals):
            continue
        real = f"dfdc_{reals[0]}.jpg"
        rows.append(Row(real, 0, "", "", f"dfdc {group}"))
        rows.append(Row(f"dfdc_{fakes[0]}.jpg", 1, "swap", real, f"dfdc {group}"))
        for row in (reals[0], fakes[0]):
            image, tables = read(table, row)
            write(folder / f"dfdc_{row}.jpg", image, tables)
        if len(rows) == 2 * images:
            break
    return rows


def write_faces(table: Table, folder: Path, asked: argparse.Namespace, rng: np.random.Generator) -> list[Row]:
    """StyleGAN's faces, the photographs, and what is made of three fourths of them."""
    assert table.target is not None
    reals, fakes = (rng.permutation(np.flatnonzero(table.target == label)) for label in (0, 1))
    rows = []
    for row in fakes[: asked.images].tolist():
        name = f"stylegan_{row}.jpg"
        write(folder / name, *read(table, row))
        rows.append(Row(name, 1, "stylegan", "", name))
    made = min(asked.images, len(reals) // 4)
    autoencoder = Autoencoder(asked.encoder, asked.decoder)
    for place, row in enumerate(reals.tolist()):
        image, tables = read(table, row)
        name = f"photo_{row}.jpg"
        write(folder / name, image, tables)
        rows.append(Row(name, 0, "", "", name))
        kind = ("reconstruction", "self_blend", "family", "")[min(place // made, 3)]
        if not kind:
            continue
        partner, _ = read(table, int(reals[(place + 1) % len(reals)]))
        if kind == "reconstruction":
            fake = autoencoder(image)
        else:
            method = METHODS["self_blend"] if kind == "self_blend" else list(MANIPULATIONS.values())[place % 4]
            fake, _ = method(image, partner, np.random.default_rng([asked.seed, row]))
        write(folder / f"{kind}_{row}.jpg", fake, tables)
        rows.append(Row(f"{kind}_{row}.jpg", 1, kind, name, name))
    return rows


class Tables(NamedTuple):
    """The encoding of a JPEG."""

    quantization: dict[int, list[int]]
    subsampling: int


def read(table: Table, row: int) -> tuple[np.ndarray, Tables]:
    """An image, uint8 [H, W, 3], and its encoding."""
    with Image.open(io.BytesIO(table.path(row).read_bytes())) as file:
        assert isinstance(file, JpegImagePlugin.JpegImageFile)
        return np.asarray(file.convert("RGB")), Tables(file.quantization, JpegImagePlugin.get_sampling(file))


def write(path: Path, image: np.ndarray, tables: Tables) -> None:
    Image.fromarray(image).save(path, "JPEG", qtables=tables.quantization, subsampling=tables.subsampling)


class Block(nn.Module):
    """Three convolutions with a shortcut, and in the middle of the autoencoder a normalized branch before them."""

    def __init__(self, pool: bool) -> None:
        super().__init__()
        layers = [nn.Conv2d(64, 64, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.pool = (
            nn.Sequential(
                nn.Conv2d(64, 256, 1, bias=False), nn.GroupNorm(4, 256), nn.ReLU(), nn.Conv2d(256, 64, 1, bias=False)
            )
            if pool
            else None
        )

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        if self.pool is not None:
            given = given + self.pool(given)
        return torch.relu(self.conv(given) + given)


class Clamp(nn.Module):
    """Limits latents smoothly to -3 to 3."""

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(latents / 3)


class FromSigned(nn.Module):
    """-1 to 1 -> 0 to 1."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels + 1) / 2


class ToSigned(nn.Module):
    """0 to 1 -> -1 to 1."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return 2 * pixels - 1


class Autoencoder:
    """TAEF2: images of a multiple of eight pixels through 32 latents for each eight by eight pixels."""

    def __init__(self, encoder: Path, decoder: Path) -> None:
        def conv(stride: int = 1) -> nn.Conv2d:
            return nn.Conv2d(64, 64, 3, stride=stride, padding=1, bias=False)

        def blocks(pool: bool = False) -> list[nn.Module]:
            return [Block(pool) for _ in range(3)]

        first, last = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 32, 3, padding=1)
        self.encoder = nn.Sequential(
            first, Block(False), conv(2), *blocks(), conv(2), *blocks(), conv(2), *blocks(True), last
        )  # fmt: skip
        up = nn.Upsample(scale_factor=2)
        into, out = nn.Conv2d(32, 64, 3, padding=1), nn.Conv2d(64, 3, 3, padding=1)
        self.decoder = nn.Sequential(
            Clamp(), into, nn.ReLU(), *blocks(True), up, conv(), *blocks(), up, conv(), *blocks(), up, conv(),
            Block(False), out,
        )  # fmt: skip
        for network, path in ((self.encoder, encoder), (self.decoder, decoder)):
            network.load_state_dict(torch.load(path, weights_only=True))
            network.eval()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """A reconstruction, uint8 [H, W, 3]."""
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            made = self.decoder(self.encoder(pixels))[0].permute(1, 2, 0)
        fake: np.ndarray = (255 * made).round().clamp(0, 255).byte().numpy()
        return fake

    def export(self, path: Path) -> None:
        """Writes a graph for `pseudo_fakes.autoencoder`: float32 [1, 3, H, W] from -1 to 1 -> the same shape."""
        network = nn.Sequential(FromSigned(), self.encoder, self.decoder, ToSigned()).eval()
        edges = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
        given = (torch.zeros(1, 3, 64, 96),)
        torch.onnx.export(network, given, path, dynamo=True, dynamic_shapes=(edges,), external_data=False)


if __name__ == "__main__":
    main()
