"""Claim: a stranger sees faces, and cannot tell the fakes at a glance.

    python benchmarks/contact_sheet.py         draws docs/quickstart.jpg: two rows of real portraits above two of fakes
    python benchmarks/contact_sheet.py quiz    draws quiz.png, six rows of nine, mixed; asks for the fakes; counts
    python benchmarks/contact_sheet.py forge [FOLDER]    draws docs/self_blend.jpg: portraits, and self-blends of them;
                                               of the images in FOLDER: forge.png, with masks and all other kinds

From data/quickstart, at the size of its images (80 px); self-blends at 128 px.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ffdi.data.images.decode import ResizePolicy
from ffdi.demo import portraits
from ffdi.experiments.workspace import Workspace
from ffdi.synthetic.manipulations import MANIPULATIONS
from ffdi.synthetic.pseudo_fakes import METHODS

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = Workspace.from_environment(PROJECT).root / "data" / "quickstart"
COLUMNS, QUIZ_ROWS, QUIZ_COLUMNS = 8, 6, 9


def sheet(names: list[str], columns: int) -> np.ndarray:
    """uint8 BGR: these validation images, row by row."""
    pictures = [picture for name in names if (picture := cv2.imread(str(FOLDER / "valset" / name))) is not None]
    assert len(pictures) == len(names)
    return np.vstack([np.hstack(pictures[start : start + columns]) for start in range(0, len(pictures), columns)])


def draw(families: pd.Series) -> None:
    """Real ones above, fakes of the four families in turn below."""
    of = families.groupby(families).groups
    turns = [of[name][turn] for turn in range(COLUMNS // 2) for name in MANIPULATIONS]
    picture = sheet([*of["real"][: 2 * COLUMNS], *turns], COLUMNS)
    cv2.imwrite(str(PROJECT / "docs" / "quickstart.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])


def ask(families: pd.Series) -> None:
    """A row of letters for each row of the picture; chance is a half."""
    chosen = families.sample(QUIZ_ROWS * QUIZ_COLUMNS, random_state=3)
    cv2.imwrite("quiz.png", sheet(list(chosen.index), QUIZ_COLUMNS))
    print(f"Look at quiz.png. {QUIZ_COLUMNS} letters for each row, R for real and F for fake:")
    marks = "".join(input(f"row {row + 1}: ").strip().upper() for row in range(QUIZ_ROWS))
    truth = ["R" if family == "real" else "F" for family in chosen]
    right = sum(mark == true for mark, true in zip(marks, truth, strict=True))
    print(f"{right} of {len(truth)} right; {truth.count('F')} are fakes")


def forge_portraits() -> None:
    """A row of drawn portraits above two of self-blends."""
    faces = [portraits.draw_portrait(np.random.default_rng([4, number]), 128) for number in range(COLUMNS)]
    blends = [
        [METHODS["self_blend"](one, one, np.random.default_rng([row, number]))[0] for number, one in enumerate(faces)]
        for row in range(2)
    ]
    picture = np.vstack([np.hstack(row) for row in (faces, *blends)])
    cv2.imwrite(str(PROJECT / "docs" / "self_blend.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])


def forge_photographs(folder: Path) -> None:
    """Rows of photographs, self-blends with their masks, and the other kinds."""
    faces = [ResizePolicy(256).load(path) for path in sorted(folder.iterdir())[:COLUMNS]]
    rows = [faces]
    for kind, make in METHODS.items():
        made = [make(one, faces[number - 1], np.random.default_rng(number)) for number, one in enumerate(faces)]
        rows.append([fake for fake, _ in made])
        if kind == "self_blend":
            rows.append([np.repeat((255 * mask).astype(np.uint8)[..., None], 3, 2) for _, mask in made])
    cv2.imwrite("forge.png", np.vstack([np.hstack(row) for row in rows])[..., ::-1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["forge"]:
        forge_photographs(Path(sys.argv[2])) if sys.argv[2:] else forge_portraits()
        sys.exit()
    table = pd.read_csv(FOLDER / "families.csv").query("split == 'val'").set_index("img_name").family
    ask(table) if sys.argv[1:] == ["quiz"] else draw(table)
