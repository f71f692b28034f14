"""Label files, images and configs with something wrong: what a hand, a spreadsheet, a disk or a download makes of them.

The same seed gives the same mutants. Each kind has a judge that shares no code with ffdi's reader: it says what the
content means, or None where it means nothing that may be accepted.
"""

from __future__ import annotations

import io
import math
import random
import signal
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from ffdi.config import schema
from ffdi.config.schema import Config, DataConfig
from ffdi.core.errors import ConfigError, DataError
from ffdi.data.images import decode
from ffdi.data.labels import table
from tests.conftest import draw_face

SECONDS = 60
"""How long a reader may take for a mutant before it counts as hanging."""
REFUSED, LET_THROUGH, SLIPPED, TRACEBACK, HANGS = "refused", "let through", "SLIPPED THROUGH", "TRACEBACK", "HANGS"
FAULTS = (SLIPPED, TRACEBACK, HANGS)
OUTCOMES = (LET_THROUGH, REFUSED, *FAULTS)


@dataclass(frozen=True)
class Mutant:
    """A base's content after one to three edits."""

    base: str
    kinds: tuple[str, ...]
    content: bytes


class Hang(BaseException):
    """A reader takes too long."""


def _alarm(_number: int, _frame: FrameType | None) -> None:
    raise Hang


def outcome(read: Callable[[], object], meant: Callable[[], object], same: Callable[[Any, Any], bool]) -> str:
    """What became of a mutant: what `read` took it for, beside what it means."""
    before = signal.signal(signal.SIGALRM, _alarm)
    signal.alarm(SECONDS)
    try:
        found = read()
    except (DataError, ConfigError) as error:
        return REFUSED if str(error).strip() else TRACEBACK
    except Hang:
        return HANGS
    except Exception:
        return TRACEBACK
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    expected = meant()
    return LET_THROUGH if expected is not None and same(found, expected) else SLIPPED


# --- edits of bytes ------------------------------------------------------------------------------------------------

Edit = Callable[[bytes, random.Random], bytes]
AWKWARD = [
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n",
    b'"',
    b",",
    b" ",
    b"\t",
    b"\x1a",
    b"=",
    b"\xe2\x80\xae",
    b"0",
    b"1",
]


def _place(content: bytes, rng: random.Random) -> int:
    return rng.randrange(len(content)) if content else 0


def _flip(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :] if content else content


def _insert(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + rng.choice(AWKWARD) + content[at:]


def _remove(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + content[at + rng.choice([1, 1, 2, 16]) :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    start, end = sorted((_place(content, rng), _place(content, rng)))
    return content[:end] + content[start:end] + content[end:]


def _zero(content: bytes, rng: random.Random) -> bytes:
    at, length = _place(content, rng), rng.choice([1, 4, 64])
    return content[:at] + bytes(length) + content[at + length :]


def _front(content: bytes, rng: random.Random) -> bytes:
    """A byte among the first ones, where headers are."""
    at = rng.randrange(min(64, len(content))) if content else 0
    return content[:at] + rng.randbytes(1) + content[at + 1 :]


BYTES: dict[str, Edit] = {
    "a bit": _flip,
    "bytes added": _insert,
    "bytes removed": _remove,
    "cut": _cut,
    "repeated": _repeat,
    "zeros": _zero,
}


def mutants(bases: dict[str, bytes], edits: dict[str, Edit], count: int, seed: int) -> Iterator[Mutant]:
    """`count` of them: mostly one edit, sometimes two or three."""
    rng = random.Random(seed)
    names = list(bases)
    for number in range(count):
        base = names[number % len(names)]
        kinds = tuple(rng.choice(list(edits)) for _ in range(rng.choice([1, 1, 1, 2, 3])))
        content = bases[base]
        for kind in kinds:
            content = edits[kind](content, rng)
        yield Mutant(base, kinds, content)


# --- label files ---------------------------------------------------------------------------------------------------

FOLDER = "trainset"
NAMES = ["a.jpg", "b.jpg", "c d.jpg", "é.png", "deep/e.jpg", "007.jpg", "1e5.jpg", "NA.jpg", "x,y.jpg", "図.webp"]


def _lines(content: bytes) -> list[bytes]:
    return content.split(b"\n")


def _line(change: Callable[[list[bytes], int, random.Random], None]) -> Edit:
    def edit(content: bytes, rng: random.Random) -> bytes:
        lines = _lines(content)
        change(lines, rng.randrange(len(lines)), rng)
        return b"\n".join(lines)

    return edit


def _drop(lines: list[bytes], at: int, _: random.Random) -> None:
    del lines[at]


def _double(lines: list[bytes], at: int, rng: random.Random) -> None:
    lines.insert(rng.randrange(len(lines)), lines[at])


def _swap(lines: list[bytes], at: int, rng: random.Random) -> None:
    other = rng.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]


def _label(lines: list[bytes], at: int, rng: random.Random) -> None:
    head, comma, _ = lines[at].rpartition(b",")
    lines[at] = (
        head
        + comma
        + rng.choice([b"0", b"1", b"", b"2", b"-1", b"1.0", b"01", b"nan", b"fake", b"True", b" 1", "１".encode()])
    )


def _name(lines: list[bytes], at: int, rng: random.Random) -> None:
    _, comma, rest = lines[at].partition(b",")
    near = [b"./a.jpg", b"deep/../a.jpg", b"../secret.jpg", b"/etc/passwd", b"A.JPG", b"deep", b"", b"deep//e.jpg"]
    near += [b"C:\\a.jpg", b"=cmd|'/c calc'!A1", b"a.jpg\0", b"a.jpg ", "é.png".encode(), b"n" * 5000]
    lines[at] = rng.choice(near) + comma + rest


def _field(lines: list[bytes], at: int, rng: random.Random) -> None:
    lines[at] += rng.choice([b",", b",0", b',"', b";0", b"\t"])


def _end(lines: list[bytes], at: int, rng: random.Random) -> None:
    lines[at] += rng.choice([b"\r", b" ", b"\\", b"#"])


LABELS: dict[str, Edit] = {
    **BYTES,
    "row dropped": _line(_drop),
    "row doubled": _line(_double),
    "rows swapped": _line(_swap),
    "another label": _line(_label),
    "another name": _line(_name),
    "a field more": _line(_field),
    "the end of a row": _line(_end),
}


def label_files(folder: Path) -> dict[str, bytes]:
    """The bases; their images are put under a folder."""
    for name in NAMES:
        path = folder / FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image")
    (folder / "secret.jpg").write_bytes(b"not of this split")
    quoted = [f'"{name}"' if "," in name else name for name in NAMES]
    plain = "".join(f"{name},{number % 2}\n" for number, name in enumerate(quoted))
    wide = "".join(f"{number % 2},g{number // 2},{name}\r\n" for number, name in enumerate(quoted))
    return {
        "labels": f"img_name,target\n{plain}".encode(),
        "labels with groups": f"\ufefftarget,group,img_name\r\n{wide}".encode(),
    }


def read_labels(one: Mutant, folder: Path) -> list[tuple[str, ...]]:
    """What ffdi takes a label file for: rows of name, label and, where there are groups, group."""
    path, problems = folder / "train_label.txt", list[str]()
    path.write_bytes(one.content)
    groups = "group" if "groups" in one.base else None
    found = table.read_labels("train", folder / FOLDER, path, DataConfig(group_column=groups), problems)
    if problems:
        raise DataError("bad rows", problems=problems)
    columns = [found.img_name, found.target, found.group]
    return list(zip(*(column.astype(str).tolist() for column in columns if column is not None), strict=True))


MEANT = {"real": "0", "false": "0", "0.0": "0", "fake": "1", "true": "1", "1.0": "1"}
"""Other words for the labels."""


def meant_by_labels(one: Mutant, folder: Path) -> list[tuple[str, ...]] | None:
    """The rows by RFC 4180, read letter by letter; None where they are not to be trusted."""
    try:
        rows = _rows(one.content.decode().removeprefix("\ufeff"))
    except ValueError:
        return None
    wanted = ["img_name", "target", *(["group"] if "groups" in one.base else [])]
    if rows and one.base == "labels" and (folder / FOLDER / rows[0][0]).is_file():  # no header
        rows.insert(0, wanted)
    usual = {"img_name": "img_name", "target": "target", "fake": "target"}
    rows[:1] = [[usual.get(field.lower(), field) for field in row] for row in rows[:1]]
    if (
        not rows
        or any(rows[0].count(column) != 1 for column in wanted)
        or any(len(row) != len(rows[0]) for row in rows)
    ):
        return None
    rows = [rows[0], *([MEANT.get(field.lower(), field) for field in row] for row in rows[1:])]
    found = [tuple(row[rows[0].index(column)] for column in wanted) for row in rows[1:]]
    root = (folder / FOLDER).resolve()
    if not any("." in name for name, *_ in found):  # ids without endings
        files_by_stem = {name.rpartition(".")[0]: name for name in NAMES}
        found = [(files_by_stem.get(name, name), *rest) for name, *rest in found]
    files = [(root / name).resolve() for name, *_ in found]
    sound = all(label in ("0", "1") and name and "" not in rest for name, label, *rest in found)
    inside = all(file.is_relative_to(root) and file.is_file() for file in files)
    return found if found and sound and inside and len(set(files)) == len(files) else None


def _rows(text: str) -> list[list[str]]:
    """Fields of a CSV, without the blanks around them; raises ValueError where quotes do not match."""
    rows, fields, field, quoted, closed = list[list[str]](), list[str](), "", False, False
    if "\0" in text:
        raise ValueError
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for letter in text if text.endswith("\n") else text + "\n":
        if quoted:
            if letter != '"':
                field += letter
            else:
                quoted, closed = False, True
        elif letter == '"' and (field == "" or closed):
            field += '"' if closed else ""
            quoted, closed = True, False
        elif letter in ",\n":
            fields.append(field.strip())
            field, closed = "", False
            if letter == "\n":
                rows += [fields] if fields != [""] else []
                fields = []
        elif closed:
            raise ValueError
        else:
            field += letter
    if quoted:
        raise ValueError
    return rows


# --- images --------------------------------------------------------------------------------------------------------

PICTURES: dict[str, Edit] = {**BYTES, "a byte of the header": _front}
TURN = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06"
"""EXIF with one entry: the orientation (tag 0x0112), one short number, 6."""
LOSSY = 2
"""Grey levels by which two decoders may differ in a JPEG or a WebP."""


def pictures() -> dict[str, bytes]:
    """The bases: a face in every format and kind."""
    face = draw_face(np.random.default_rng(7), fake=True)
    image = Image.fromarray(face[..., ::-1])
    kinds: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpeg": (image, "JPEG", {"quality": 90}),
        "jpeg, progressive": (image, "JPEG", {"progressive": True}),
        "jpeg, grey": (image.convert("L"), "JPEG", {}),
        "jpeg, turned": (
            image,
            "JPEG",
            {"exif": b"Exif\0\0" + TURN + b"\0\0\0\0\0\0"},
        ),
        "png": (image, "PNG", {}),
        "png, palette": (image.quantize(16), "PNG", {}),
        "png, alpha": (image.convert("RGBA"), "PNG", {}),
        "bmp": (image, "BMP", {}),
        "webp": (image, "WEBP", {"lossless": True}),
        "tiff": (image, "TIFF", {}),
    }
    found = {}
    for name, (kind, how, options) in kinds.items():
        file = io.BytesIO()
        kind.save(file, how, **options)
        found[name] = file.getvalue()
    found["png, 16 bit"] = cv2.imencode(".png", face.astype(np.uint16) * 257)[1].tobytes()
    return found


def read_picture(one: Mutant) -> np.ndarray:
    """What ffdi takes an image for; every one of its ways to read it must agree."""
    pixels = decode.decode(one.content, one.base)
    grey = decode.decode_grey(one.content, one.base)
    assert grey.shape == pixels.shape[:2], "the doctor and the training do not see the same picture"
    return pixels


def meant_by_picture(one: Mutant) -> list[np.ndarray]:
    """RGB by Pillow, as every turn where the entry that says how to turn it is damaged; empty where it is refused."""
    try:
        image = Image.open(io.BytesIO(one.content))
        image.load()
        if image.mode.startswith("I;16"):
            return [np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)]
        if "turned" in one.base and TURN not in one.content:
            plain = np.asarray(image.convert("RGB"))
            return [np.rot90(side, turn) for side in (plain, plain[:, ::-1]) for turn in range(4)]
        return [np.asarray(ImageOps.exif_transpose(image).convert("RGBA").convert("RGB"))]
    except Exception:
        return []


def same_picture(found: np.ndarray, meant: list[np.ndarray]) -> bool:
    return any(
        found.shape == one.shape and int(np.abs(found.astype(int) - one).max(initial=0)) <= LOSSY for one in meant
    )


# --- configs -------------------------------------------------------------------------------------------------------

SETTINGS = """
seed = 3
[data]
root = "data/faces"
group_column = "group"
train.folder = "faces"
[folds]
k = 4
scheme = "clusters"
[model]
backbone = "resnet18"
pretrained = false
size = 64
drop_rate = 0.25
[augment]
recipe = "light"
[train]
epochs = 3
batch_size = 8
lr = 3e-3
ema_decay = 0.9
precision = "fp32"
select = "best"
[predict]
tta = "hflip"
[ensemble]
method = "mean"
[export]
max_parameters = 1_000_000
"""
VALUES = [
    "true",
    "false",
    '"8"',
    "8",
    "8.0",
    "8.5",
    "-1",
    "0",
    "1e400",
    "nan",
    "inf",
    "[8]",
    "{}",
    "1979-05-27",
    '""',
    "9" * 30,
]
KEYS = ["sed", "lr", "train", "k", '"lr "', "épochs", "data.root", "size", "seed"]


def _value(lines: list[bytes], at: int, rng: random.Random) -> None:
    head, equals, _ = lines[at].partition(b"=")
    lines[at] = head + equals + rng.choice(VALUES).encode()


def _key(lines: list[bytes], at: int, rng: random.Random) -> None:
    _, equals, rest = lines[at].partition(b"=")
    lines[at] = rng.choice(KEYS).encode() + equals + rest


def _heading(lines: list[bytes], at: int, rng: random.Random) -> None:
    lines.insert(
        at, rng.choice([b"[train]", b"[trian]", b"[[folds]]", b"[model.size]", b"[" * 2000, b"a = " + b"[" * 2000])
    )


CONFIGS: dict[str, Edit] = {
    **BYTES,
    "row dropped": _line(_drop),
    "row doubled": _line(_double),
    "rows swapped": _line(_swap),
    "another value": _line(_value),
    "another key": _line(_key),
    "another heading": _line(_heading),
}


def read_config(one: Mutant, folder: Path) -> Config:
    """What ffdi takes a config for."""
    path = folder / "config.toml"
    path.write_bytes(one.content)
    return schema.load_experiment(path)


def meant_by_config(one: Mutant) -> dict[tuple[str, ...], Any] | None:
    """Every value that the file has, by its place."""
    try:
        return dict(_leaves(tomllib.loads(one.content.decode()), ()))
    except (ValueError, RecursionError):
        return None


def same_config(found: Config, meant: dict[tuple[str, ...], Any]) -> bool:
    """Whether a config has these values, and the defaults otherwise."""
    have, usual = (dict(_leaves(one.model_dump(), ())) for one in (found, Config()))
    return have.keys() >= meant.keys() and all(
        _equal(value, meant[place]) if place in meant else value == usual[place] for place, value in have.items()
    )


def _leaves(content: dict[str, Any], place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*place, key))
        elif not isinstance(value, dict):
            yield (*place, key), value


def _equal(value: Any, meant: Any) -> bool:
    """Numbers may be whole or not; all else is of one type."""
    if isinstance(value, bool) or isinstance(meant, bool) or not isinstance(meant, int | float):
        return type(value) is type(meant) and value == meant
    return math.isfinite(meant) and (value == meant or (isinstance(value, float) and value == float(meant)))


# --- all of them ---------------------------------------------------------------------------------------------------


def outcomes(count: int, seed: int, folder: Path) -> Iterator[tuple[Mutant, str]]:
    """What becomes of `count` mutants of each sort."""
    for one in mutants(label_files(folder), LABELS, count, seed):
        yield one, outcome(lambda: read_labels(one, folder), lambda: meant_by_labels(one, folder), list.__eq__)  # noqa: B023
    for one in mutants(pictures(), PICTURES, count, seed):
        yield one, outcome(lambda: read_picture(one), lambda: meant_by_picture(one), same_picture)  # noqa: B023
    for one in mutants({"config": SETTINGS.encode()}, CONFIGS, count, seed):
        yield one, outcome(lambda: read_config(one, folder), lambda: meant_by_config(one), same_config)  # noqa: B023


def at_fault(found: Sequence[tuple[Mutant, str]]) -> list[tuple[str, str, tuple[str, ...], bytes]]:
    """Those that slipped through, raised what no reader means to raise, or took too long."""
    return [(result, one.base, one.kinds, one.content) for one, result in found if result in FAULTS]
