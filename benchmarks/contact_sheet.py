"""Claim: a stranger sees faces, and cannot tell the fakes at a glance.

    python benchmarks/contact_sheet.py [quiz | forge] [--images FOLDER]

Without a word: draws docs/quickstart.jpg, two rows of real portraits above two of fakes. With quiz: draws quiz.png, six
rows of nine, mixed; asks for the fakes, and counts. With forge: draws docs/self_blend.jpg, portraits above self-blends
of them; of the images in FOLDER: forge.png, with masks and all other kinds.

From data/quickstart, at the size of its images (80 px); self-blends at 128 px.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ffdi.data.images.resizing import ResizePolicy
from ffdi.demo import competition, portraits
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


def main() -> None:
    """Draws what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", choices=("sheet", "quiz", "forge"), default="sheet")
    parser.add_argument("--images", type=Path)
    asked = parser.parse_args()
    if asked.picture == "forge":
        forge_photographs(asked.images) if asked.images else forge_portraits()
        return
    if not (FOLDER / "families.csv").is_file():
        competition.write_competition(FOLDER)
    table = pd.read_csv(FOLDER / "families.csv").query("split == 'val'").set_index("img_name").family
    ask(table) if asked.picture == "quiz" else draw(table)


if __name__ == "__main__":
    main()
