"""Data folders as people have them: layouts, labels, links, endings and junk files, drawn from a seed.

Each folder has a judge that shares no code with ffdi's reader: it walks the folder with `os.walk`, asks Pillow which
files are images, and says which rows the training table must have, or which word an error must have.
"""

from __future__ import annotations

import io
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ffdi.config.schema import DataConfig
from ffdi.core.errors import DataError
from ffdi.data.labels import layout

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
ENDINGS = (".jpg", ".JPG", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".webp", ".tif", "", ".image", ".0001")
JUNK = ("Thumbs.db", "._1.jpg", ".DS_Store", "notes.txt", "x.heic", "y.gif", "movie.mp4", "__MACOSX/._1.jpg",
        ".ipynb_checkpoints/1-checkpoint.jpg", "meta.json")  # fmt: skip
PASSED_OVER = (".heic", ".gif")
"""Images of other formats, which a training split passes over."""
WORDS = {
    ("real", "fake"): None,
    ("0_real", "1_fake"): None,
    ("REAL", "Fake"): None,
    ("0", "1"): {"0": 0, "1": 1},
    ("training_real", "training_fake"): {"training_real": 0, "training_fake": 1},
    ("nature", "ai"): {"nature": 0, "ai": 1},
    ("original", "manipulated"): {"original": 0, "Manipulated": 1},
}
"""Names of class folders, each pair with the `data.labels` that it needs."""
LABELS = {
    ("0", "1"): None,
    ("0.0", "1.0"): None,
    ("REAL", "FAKE"): None,
    ("False", "True"): None,
    ("pristine", "synthetic"): {"pristine": 0, "synthetic": 1},
    ("1", "2"): {"1": 0, "2": 1},
}
SEPARATORS = (",", "\t", ";", "|", " ")
HEADERS = (("img_name", "target"), ("filename", "label"), ("Image", "class"), ("id", "is_fake"), None)


@dataclass
class Case:
    """A folder: its `[data]` keys and what must be read.

    Attributes:
        kinds: what was drawn.
        rows: the label of each image by its name; None if it must be refused.
        causes: parts of the error: it must have one of them.
    """

    kinds: list[str]
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, int] | None = None
    causes: list[str] = field(default_factory=list)


def draw(folder: Path, rng: random.Random) -> Case:
    """Writes a data folder and judges it."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "trainset").mkdir(parents=True)
    return _draw_class_folders(folder, rng) if rng.random() < 0.5 else _draw_label_file(folder, rng)


def put_image(path: Path, rng: random.Random) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    Image.new("RGB", (9, 7), (rng.randrange(256), 90, 90)).save(content, rng.choice(FORMATS))
    path.write_bytes(content.getvalue())


def _draw_class_folders(folder: Path, rng: random.Random) -> Case:
    train = folder / "trainset"
    words = rng.choice(list(WORDS))
    case = Case([f"class folders {words}"])
    if (labels := WORDS[words]) is not None:
        if rng.random() < 0.8:
            case.config["labels"] = labels
        else:
            case.kinds.append("no data.labels")
            case.causes.append("data.labels")
    nested = rng.random() < 0.3
    for source in ("gan", "diffusion") if nested else ("",):
        for word in words:
            for number in range(rng.randint(1, 4)):
                sub = rng.choice(["", "", "deep/", "x/y/"])
                put_image(train / source / word / f"{sub}{number}{rng.choice(ENDINGS)}", rng)
    if nested:
        case.kinds.append("nested")
    places = sorted(path for path in train.rglob("*") if path.is_dir())
    for _ in range(rng.randint(0, 4)):
        _add_junk(rng.choice(places), rng)
    for _ in range(rng.choice([0, 0, 1, 2])):
        case.kinds.append(
            _add_link(
                folder, rng.choice([place for place in places if _class_of(place, train, words) is not None]), rng
            )
        )
    if rng.random() < 0.2:
        case.kinds.append("unknown folder")
        put_image(train / rng.choice(["Deepfakes", "other", "two words"]) / "1.png", rng)
        case.causes.append("outside of them")
    elif rng.random() < 0.05:
        case.kinds.append("loose image")
        put_image(train / "loose.jpg", rng)
        case.causes.append("outside of them")
    if not case.causes:
        case.rows = {name: _class_of(train / name, train, words) or 0 for name in _walk(train)}
    return case


def _class_of(path: Path, train: Path, words: tuple[str, str]) -> int | None:
    known = {word.lower(): target for target, word in enumerate(words)}
    return next((known[part.lower()] for part in path.relative_to(train).parts[:2] if part.lower() in known), None)


def _add_junk(place: Path, rng: random.Random) -> None:
    path = place / rng.choice(JUNK)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"BM and no image")


def _add_link(folder: Path, place: Path, rng: random.Random) -> str:
    kind = rng.choice(["folder", "file", "broken", "circle", "twice"])
    pool, link = folder / "pool", place / f"link{rng.randrange(10**6)}"
    if kind in ("folder", "twice"):
        put_image(pool / "p.jpg", rng)
        put_image(pool / "q" / "r.png", rng)
        link.symlink_to(pool, target_is_directory=True)
        if kind == "twice":
            link.with_name(f"{link.name}-again").symlink_to(pool, target_is_directory=True)
    elif kind == "file":
        put_image(pool / "p.jpg", rng)
        link.with_suffix(".jpg").symlink_to(pool / "p.jpg")
    elif kind == "broken":
        link.with_suffix(".jpg").symlink_to(folder / "gone.jpg")
    else:
        link.symlink_to(rng.choice([place, place.parent, folder]), target_is_directory=True)
    return f"link: {kind}"


def _walk(train: Path) -> list[str]:
    """The names of all images: real folders first, then each linked folder once, by name."""
    found, seen, links = list[str](), {*map(os.path.realpath, [train, *train.resolve().parents])}, list[Path]()

    def visit(top: Path) -> None:
        for place, folders, files in os.walk(top):
            if place != str(top) or top == train:
                seen.add(os.path.realpath(place))
            kept = []
            for one in folders:
                path = Path(place, one)
                if path.is_symlink():
                    links.append(path)
                elif one not in ("__MACOSX", ".ipynb_checkpoints") and (os.path.realpath(path) not in seen):
                    kept.append(one)
            folders[:] = kept
            found.extend(
                Path(place, one).relative_to(train).as_posix()
                for one in files
                if not one.startswith("._") and not one.endswith(PASSED_OVER) and _is_image(Path(place, one))
            )

    visit(train)
    while links:
        links.sort(key=lambda path: path.relative_to(train).as_posix() + "/")
        link = links.pop(0)
        if os.path.realpath(link) not in seen:
            seen.add(os.path.realpath(link))
            visit(link)
    return found


def _is_image(path: Path) -> bool:
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.load()
    except OSError:
        return False
    return True


def _draw_label_file(folder: Path, rng: random.Random) -> Case:
    train = folder / "trainset"
    words, separator, header = rng.choice(list(LABELS)), rng.choice(SEPARATORS), rng.choice(HEADERS)
    case = Case([f"labels {words}", f"separator {separator!r}", f"header {header}"])
    if (labels := LABELS[words]) is not None:
        if rng.random() < 0.8:
            case.config["labels"] = labels
        else:
            case.causes.append("data.labels")
    spelling = rng.choice(["plain", "plain", "folder", "windows", "stem", "absolute", "windows absolute"])
    case.kinds.append(f"names: {spelling}")
    rows: dict[str, int] = {}
    for number in range(rng.randint(2, 6)):
        name = rng.choice(["", "sub/"]) + f"{number}{rng.choice(['.jpg', '.PNG', '.jpeg', '.webp'])}"
        put_image(train / name, rng)
        rows[name] = number % 2
    prefix = {"absolute": "/kaggle/input/faces", "windows absolute": "D:\\data"}.get(spelling)
    if prefix is not None:
        if rng.random() < 0.8:
            case.config["prefix"] = prefix
        else:
            case.causes.append("data.prefix")
    lines = [(_spell(name, spelling), words[target]) for name, target in rows.items()]
    fault = rng.choice(["", "", "", "gone", "soft", "twice", "third label", "outside"])
    if fault:
        case.kinds.append(fault)
        name, label = lines[-1]
        bad, cause = {
            "gone": ((_spell("gone.jpg", spelling), label), "gone"),
            "soft": ((name, "0.35"), "between the classes"),
            "twice": (lines[0], "already"),
            "third label": ((name, "maybe"), "is none of"),
            "outside": (("../../secret.jpg", label), "secret"),
        }[fault]
        lines[-1] = bad
        case.causes.append(cause)
    text = "".join(f"{name}{separator}{label}\n" for name, label in lines)
    if header is not None:
        text = f"{separator.join(header)}\n{text}"
    (folder / f"trainset_label{rng.choice(['.txt', '.csv'])}").write_text(text)
    if header is None and prefix is not None and "prefix" not in case.config:
        case.causes = ["no column"]  # the first line is known for a row by its image
    digits = set("".join(words)) <= set("012")
    if (
        header is None
        and spelling == "stem"
        and digits
        and set(dict(lines)) <= {"0", "1", "../../secret.jpg"} | set(words)
    ):
        case.causes.append("both columns")  # '0 1' may be image 0, or image 1
    case.rows = None if case.causes else rows
    return case


def _spell(name: str, spelling: str) -> str:
    return {
        "plain": name,
        "folder": f"trainset/{name}",
        "windows": name.replace("/", "\\"),
        "stem": name.rpartition(".")[0],
        "absolute": f"/kaggle/input/faces/trainset/{name}",
        "windows absolute": f"D:\\data\\trainset\\{name}".replace("/", "\\"),
    }[spelling]


def cases(count: int, seed: int, folder: Path) -> Iterator[tuple[Case, str]]:
    """Each case with what went wrong; '' for a case that is read or refused as it must be."""
    for number in range(count):
        case = draw(folder, random.Random(seed * 1_000_003 + number))
        yield case, judge(case, folder)


def judge(case: Case, folder: Path) -> str:
    try:
        train = layout.find_dataset(folder, DataConfig.model_validate(case.config)).split("train")
    except DataError as error:
        if case.rows is not None:
            return f"refused: {error}"
        named = any(cause in str(error) for cause in case.causes)
        return "" if named else f"an error with none of {case.causes}: {error}"
    except Exception as error:  # a traceback for the user
        return f"{type(error).__name__}: {error}"
    assert train.target is not None
    read = dict(zip(train.img_name.tolist(), train.target.tolist(), strict=True))
    if case.rows is None:
        return f"read in spite of {case.causes}"
    return "" if read == case.rows else f"read {read}, not {case.rows}"
