"""Submissions with one thing wrong: every edit that a hand, a spreadsheet or a bug makes to a file or to its arrays.

The same seed gives the same mutants. `harmless` decides: an independent reader, which shares no code with the gate.
"""

from __future__ import annotations

import csv
import io
import math
import random
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

HEADER = ["img_name", "y_pred"]
Rows = list[list[str]]


@dataclass(frozen=True)
class Base:
    """A submission as it should be: names, their scores float64 [N], the text of the file."""

    title: str
    names: list[str]
    y_pred: np.ndarray
    content: str

    @property
    def rows(self) -> Rows:
        """The fields as they are written, less the header."""
        return [[name, f"{score:.9g}"] for name, score in zip(self.names, self.y_pred.tolist(), strict=True)]


@dataclass(frozen=True)
class Mutant:
    """A base's text after one edit of a kind."""

    kind: str
    base: Base
    content: str


@dataclass(frozen=True)
class Arrays:
    """What `build` is given, after one edit of a kind; `reference` is float64 [N]."""

    kind: str
    expected: list[str]
    img_name: np.ndarray
    y_pred: np.ndarray
    reference: np.ndarray


# --- the independent reader ------------------------------------------------------------------------------------------


def read(content: str) -> dict[str, float] | None:
    """name -> score by csv and float alone; None where that is no mapping of names to scores."""
    try:
        rows = [row for row in csv.reader(io.StringIO(content.removeprefix("\ufeff"), newline="")) if row]
        pairs = [(name, float(score)) for name, score in rows[1:]]
    except (csv.Error, ValueError):
        return None
    scores = dict(pairs)
    return scores if rows and rows[0] == HEADER and len(scores) == len(pairs) else None


def harmless(content: str, names: list[str], y_pred: np.ndarray) -> bool:
    """Whether a text gives exactly these scores (as nine digits give them, to 1e-9) to exactly these names."""
    found = read(content)
    meant = {name: float(f"{score:.9g}") for name, score in zip(names, y_pred.tolist(), strict=True)}
    return (
        found is not None
        and found.keys() == meant.keys()
        and all(math.isclose(found[name], score, rel_tol=1e-9) for name, score in meant.items())
    )


def lawful(one: Arrays) -> bool:
    """Whether these arrays may be submitted at all."""
    names, scores = one.img_name.tolist(), one.y_pred.tolist()
    texts = [name for name in [*names, *one.expected] if isinstance(name, str)]
    if len(texts) < len(names) + len(one.expected) or any("\ud800" <= letter <= "\udfff" for letter in "".join(texts)):
        return False
    if one.y_pred.dtype.kind not in "fiu" or one.y_pred.ndim != 1 or len(names) != len(scores) or not names:
        return False
    matched = sorted(names) == sorted(one.expected) and len(set(names)) == len(names)
    ranged = all(0 <= score <= 1 for score in scores)
    return matched and ranged and (len(names) == 1 or len({f"{score:.9g}" for score in scores}) > 1)


# --- the bases -------------------------------------------------------------------------------------------------------

AWKWARD = [
    "a,b.jpg",
    'say "x".jpg',
    "two words.png",
    "é.jpg",
    "图.jpg",
    "007",
    "1e5",
    "NA",
    "nan",
    "-1.5",
    "y_pred",
    "'",
]
EXTREME = [0, 1, 0.5, 0.25, 0.1, 1e-9, 1e-300, 5e-324, 0.999999999, 1 / 3, 0.5, 1e-4]


def write(rows: Rows) -> str:
    """Rows as a CSV, the header not added."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def bases(seed: int = 0) -> list[Base]:
    """Submissions of 1 to 40 images: plain and awkward names, common and extreme scores."""
    rng = np.random.default_rng(seed)
    drawn = {
        "plain": ([f"img_{position:04}.jpg" for position in range(40)], rng.beta(0.4, 0.4, 40).astype(np.float32)),
        "awkward names": (AWKWARD, rng.uniform(size=len(AWKWARD))),
        "extreme scores": ([f"{letter}.jpg" for letter in "abcdefghijkl"], np.array(EXTREME)),
        "folders": ([f"test/{position}/face.png" for position in range(5)], rng.uniform(size=5)),
        "two": (["a.jpg", "b.jpg"], np.array([0.125, 0.75])),
        "one": (["only.jpg"], np.array([0.5])),
    }
    made = []
    for title, (names, scores) in drawn.items():
        y_pred = scores.astype(np.float64)
        draft = Base(title, names, y_pred, "")
        made.append(replace(draft, content=write([HEADER, *draft.rows])))
    return made


# --- edits of the text -----------------------------------------------------------------------------------------------


def of_text(seed: int = 0) -> list[Mutant]:
    """Every mutant once for each base, in the order of `KINDS`; none has the text of its base."""
    found: dict[tuple[str, str], Mutant] = {}
    for base in bases(seed):
        for kind, edit in KINDS.items():
            rng = random.Random(f"{seed} {base.title} {kind}")
            for content in edit(base, rng):
                if content != base.content:
                    found.setdefault((base.title, content), Mutant(kind, base, content))
    return list(found.values())


def _with_rows(
    change: Callable[[Rows, random.Random], Iterator[Rows]],
) -> Callable[[Base, random.Random], Iterator[str]]:
    """An edit of the rows, written again as a CSV with its header."""
    return lambda base, rng: (write([HEADER, *rows]) for rows in change(base.rows, rng))


def _with_fields(column: int, change: Callable[[str], list[str]]) -> Callable[[Base, random.Random], Iterator[str]]:
    """An edit of one field at a time, of up to eight rows."""

    def edit(base: Base, rng: random.Random) -> Iterator[str]:
        for position in sorted(rng.sample(range(len(base.names)), min(8, len(base.names)))):
            for changed in change(base.rows[position][column]):
                rows = base.rows
                rows[position][column] = changed
                yield write([HEADER, *rows])

    return edit


def _drop(rows: Rows, _: random.Random) -> Iterator[Rows]:
    return (rows[:position] + rows[position + 1 :] for position in range(len(rows)))


def _duplicate(rows: Rows, rng: random.Random) -> Iterator[Rows]:
    for row in rows:
        yield [*rows, row]
        yield [*rows, [row[0], f"{rng.random():.9g}"]]


def _swap_rows(rows: Rows, rng: random.Random) -> Iterator[Rows]:
    for first, second in _pairs(rows, rng):
        swapped = list(rows)
        swapped[first], swapped[second] = rows[second], rows[first]
        yield swapped


def _swap_names(rows: Rows, rng: random.Random) -> Iterator[Rows]:
    for first, second in _pairs(rows, rng):
        swapped = [list(row) for row in rows]
        swapped[first][0], swapped[second][0] = rows[second][0], rows[first][0]
        yield swapped


def _pairs(rows: Rows, rng: random.Random) -> list[list[int]]:
    return [rng.sample(range(len(rows)), 2) for _ in range(10)] if len(rows) > 1 else []


def _whole_column(rows: Rows, rng: random.Random) -> Iterator[Rows]:
    """The column of scores turned around, sorted, moved, mixed, constant, rounded, or in per cent."""
    names, scores = [row[0] for row in rows], [row[1] for row in rows]
    numbers = [float(score) for score in scores]
    columns = [
        [f"{1 - number:.9g}" for number in numbers],
        [f"{-number:.9g}" for number in numbers],
        sorted(scores, key=float),
        sorted(scores, key=float, reverse=True),
        scores[1:] + scores[:1],
        rng.sample(scores, len(scores)),
        *([constant] * len(scores) for constant in ("0", "1", "0.5", scores[0])),
        *([f"{number:.{digits}f}" for number in numbers] for digits in (0, 1, 4)),
        [f"{100 * number:.9g}" for number in numbers],
        [f"{number:.17g}" for number in numbers],
        [str(position) for position in range(len(scores))],
    ]
    return ([[name, score] for name, score in zip(names, column, strict=True)] for column in columns)


def _whole_order(rows: Rows, rng: random.Random) -> Iterator[Rows]:
    yield from (sorted(rows), rows[::-1], rng.sample(rows, len(rows)), [], rows + rows)


def _wider(rows: Rows, _: random.Random) -> Iterator[Rows]:
    """A column too many or too few, in every row or in one."""
    for change in (
        lambda row: [*row, ""],
        lambda row: [*row, "1"],
        lambda row: row[:1],
        lambda row: row[1:],
        lambda row: row[::-1],
    ):
        yield [change(row) for row in rows]
        for position in (0, len(rows) - 1):
            yield [change(row) if number == position else row for number, row in enumerate(rows)]


def _digits(score: str) -> list[str]:
    changed = []
    for position, letter in enumerate(score):
        if letter.isdecimal():
            changed += [score[:position] + str((int(letter) + step) % 10) + score[position + 1 :] for step in (1, 9)]
    return changed


def _scale(score: str) -> list[str]:
    """The sign, the decimal point and the exponent."""
    number = float(score)
    changed = [f"-{score}", f"{number * 10:.9g}", f"{number / 10:.9g}", f"{number + 1:.9g}", f"{1 - number:.9g}"]
    changed += [score + exponent for exponent in ("e1", "e-1", "E+2", "e", "e-", "e999", "e-999", "e0.5")]
    return [*changed, score.replace("e-", "e"), score.replace("e-", "e+"), score.replace(".", ""), score + ".1"]


def _spellings(score: str) -> list[str]:
    """Another spelling of the same number, some of which no reader takes."""
    number = float(score)
    changed = [f"+{score}", f"{number:.8e}", f"{number:.8E}", f"0{score}", f"{score}e0", score.removeprefix("0")]
    changed += [score + "0" if "." in score and "e" not in score else score + "e-0", f"{number!r}", number.hex()]
    changed += [score.replace(".", ","), score.replace("0", "٠"), score.replace("0", "０"), f"{score}f", f"{score}%"]
    return [*changed, f" {score}", f"{score} ", f"\t{score}", f"'{score}'", f'"{score}"', f"{score[:1]}_{score[1:]}"]


def _no_number(_: str) -> list[str]:
    words = [
        "",
        " ",
        "nan",
        "NaN",
        "NA",
        "inf",
        "-inf",
        "Infinity",
        "1,5",
        "0,5",
        "null",
        "None",
        "fake",
        "TRUE",
        "#N/A",
    ]
    return [
        *words,
        "0x1p-1",
        "1/2",
        "1e",
        ".",
        "-",
        "+",
        "0.5.5",
        "--1",
        "½",
        "١",
        "1 000",
        "[0.5]",
        "tensor(0.5)",
        "\0",
        "1\0",
    ]


def _names(name: str) -> list[str]:
    stem, dot, ending = name.rpartition(".")
    changed = [
        name.upper(),
        name.capitalize(),
        name.swapcase(),
        f" {name}",
        f"{name} ",
        f"\u00a0{name}",
        f"{name}\u200b",
    ]
    changed += [f"./{name}", f"/{name}", f"testset/{name}", name.rpartition("/")[2], name.replace("/", "\\")]
    changed += [
        stem,
        f"{stem}.jpeg",
        f"{stem}.png",
        f"{name}.jpg",
        f"{stem}{dot}{ending.upper()}",
        "",
        name[1:],
        name[:-1],
    ]
    alike = str.maketrans({"a": "а", "e": "е", "i": "і", "o": "о", "p": "р", "-": "‐", "0": "O", "1": "l", "_": "＿"})
    changed += [name.translate(alike), unicodedata.normalize("NFD", name), unicodedata.normalize("NFKD", name)]
    return [
        *changed,
        f"'{name}'",
        f'"{name}"',
        f"{name}\0",
        f"{name}\n",
        f"{name}\r",
        f"\ufeff{name}",
        name + "x" * 9000,
        name[::-1],
    ]


def _headers(base: Base, _: random.Random) -> Iterator[str]:
    body = base.content.partition("\n")[2]
    for header in (
        *("", "\n", "img_name\n", "y_pred\n", "y_pred,img_name\n", "img_name,y_pred,\n", ",img_name,y_pred\n"),
        *("Img_name,y_pred\n", "img_name,Y_pred\n", "img_name, y_pred\n", " img_name,y_pred\n", "img_name,y_pred \n"),
        *(
            "img,y_pred\n",
            "img_name,pred\n",
            "img_name,target\n",
            "img_name,y_prеd\n",
            "name,score\n",
            "#img_name,y_pred\n",
        ),
        *("img_name;y_pred\n", "img_name\ty_pred\n", "img_name|y_pred\n", "img_name y_pred\n", "img_name.y_pred\n"),
        *("\nimg_name,y_pred\n", "img_name,y_pred\n\n", "img_name,y_pred\nimg_name,y_pred\n", "img_name,y_pred"),
        *('"img_name","y_pred"\n', '"img_name,y_pred"\n', "'img_name','y_pred'\n", "sep=,\nimg_name,y_pred\n"),
        *("img_name,y_pred\r", "img_name,y_pred\r\r\n", "img_name,y_pred\0\n", "\ufeff\ufeffimg_name,y_pred\n"),
    ):
        yield header + body
    yield base.content + "img_name,y_pred\n"


def _delimiters(base: Base, _: random.Random) -> Iterator[str]:
    for delimiter in (";", "\t", "|", " ", ", ", " ,", ",,", ":", "，", "\x1f"):
        yield base.content.replace(",", delimiter)
        head, _, body = base.content.partition("\n")
        yield head + "\n" + body.replace(",", delimiter)


def _line_ends(base: Base, _: random.Random) -> Iterator[str]:
    for end in ("\r\n", "\r", "\n\r", "\r\r\n", "\n\n", " \n", ",\n", "\u2028", "\x0b", "\x85", ";\n", "\\n", ""):
        yield base.content.replace("\n", end)
    for tail in (
        "",
        "\n\n",
        "\r\n",
        "\n\n\n",
        " ",
        " \n",
        ",",
        ",\n",
        "\x1a",
        "\0",
        '"',
        "#",
        "\t\n",
        "EOF\n",
        "\n,\n",
        "\r",
    ):
        yield base.content[:-1] + tail
    for count in (1, 2, len(base.names)):
        yield base.content.replace("\n", "\r\n", count)
        yield base.content.replace("\n", "\r", count)


def _quotes(base: Base, _: random.Random) -> Iterator[str]:
    head = ",".join(HEADER) + "\n"
    for quoting in (csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC):
        file = io.StringIO()
        csv.writer(file, lineterminator="\n", quoting=quoting).writerows([HEADER, *base.rows])
        yield file.getvalue()
    yield head + "".join(f"{name},{score}\n" for name, score in base.rows)
    yield head + "".join(f"'{name}',{score}\n" for name, score in base.rows)
    yield head + "".join(f'"{name}",{score}\n' for name, score in base.rows)
    yield head + "".join(f'"{name},{score}"\n' for name, score in base.rows)
    for mark in ('"', '""', "'", '"""'):
        for position in range(0, len(base.content), max(1, len(base.content) // 12)):
            yield base.content[:position] + mark + base.content[position:]


def _lines(base: Base, _: random.Random) -> Iterator[str]:
    """A line added or removed, with any content."""
    lines = base.content.splitlines(keepends=True)
    for position in sorted({1, len(lines) // 2, len(lines) - 1, len(lines)}):
        for line in (
            "\n",
            " \n",
            ",\n",
            "# note\n",
            "other.jpg,0.5\n",
            "\t\n",
            "---\n",
            "<<<<<<< HEAD\n",
            "\r\n",
            "\0\n",
            '"\n',
            '""\n',
        ):
            yield "".join([*lines[:position], line, *lines[position:]])
        yield "".join([*lines[: position - 1], *lines[position:]])
        yield "".join([*lines[: position - 1], lines[position - 1].rstrip("\n"), *lines[position:]])


def _truncations(base: Base, _: random.Random) -> Iterator[str]:
    data = base.content.encode()
    return (data[:size].decode(errors="surrogateescape") for size in range(len(data)))


def _heads_lost(base: Base, _: random.Random) -> Iterator[str]:
    data = base.content.encode()
    return (data[size:].decode(errors="surrogateescape") for size in range(1, min(len(data), 60)))


def _encodings(base: Base, _: random.Random) -> Iterator[str]:
    """Bytes of one encoding read as another, and byte-order marks."""
    data = base.content.encode()
    yield "\ufeff" + base.content
    yield "\ufeff\ufeff" + base.content
    yield base.content + "\ufeff"
    yield from (data.decode(wrong, "replace") for wrong in ("latin-1", "cp1252", "utf-16-le", "ascii", "cp437"))
    yield ("\ufeff" + base.content).encode().decode("latin-1")
    for other in ("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7", "cp500"):
        written = base.content.encode(other, "replace")
        yield from (written.decode("utf-8", errors) for errors in ("surrogateescape", "replace", "ignore"))
    yield from (unicodedata.normalize(form, base.content) for form in ("NFC", "NFD", "NFKC", "NFKD"))


def _letters(base: Base, rng: random.Random) -> Iterator[str]:
    """One character put in, taken out, changed, doubled or swapped with the next, anywhere."""
    text = base.content
    for position in sorted(rng.sample(range(len(text)), min(60, len(text)))):
        before, letter, after = text[:position], text[position], text[position + 1 :]
        new = rng.choice("\0\x01\x07\x08\x1b\x7f\u200b\u202e\u00ad\r\n\t ,;.\"'-0159eEaZé\ud800")
        yield from (before + after, before + letter * 2 + after, before + new + after, before + new + letter + after)
        yield before + after[:1] + letter + after[1:]


def _bits(base: Base, rng: random.Random) -> Iterator[str]:
    """One bit of the file's bytes turned."""
    data = base.content.encode()
    for position in sorted(rng.sample(range(len(data)), min(60, len(data)))):
        turned = bytearray(data)
        turned[position] ^= 1 << rng.randrange(8)
        yield turned.decode(errors="surrogateescape")


KINDS: dict[str, Callable[[Base, random.Random], Iterator[str]]] = {
    "row dropped": _with_rows(_drop),
    "row twice": _with_rows(_duplicate),
    "two rows swapped": _with_rows(_swap_rows),
    "two names swapped": _with_rows(_swap_names),
    "all scores": _with_rows(_whole_column),
    "all rows": _with_rows(_whole_order),
    "columns": _with_rows(_wider),
    "a score's digit": _with_fields(1, _digits),
    "a score's sign, point, exponent": _with_fields(1, _scale),
    "a score's spelling": _with_fields(1, _spellings),
    "a score that is none": _with_fields(1, _no_number),
    "a name": _with_fields(0, _names),
    "header": _headers,
    "delimiter": _delimiters,
    "line ends": _line_ends,
    "quotes": _quotes,
    "lines": _lines,
    "truncated": _truncations,
    "beginning lost": _heads_lost,
    "encoding": _encodings,
    "a character": _letters,
    "a bit": _bits,
}
"""What one edit does, by kind."""


# --- edits of the arrays ---------------------------------------------------------------------------------------------


def of_arrays(seed: int = 0) -> list[Arrays]:
    """Mutants of what `build` is given, for each base."""
    return [mutant for base in bases(seed) for mutant in _of_base(base)]


def _of_base(base: Base) -> Iterator[Arrays]:
    names, scores = np.array(base.names), base.y_pred
    logits = np.log(np.clip(scores, 1e-12, 1 - 1e-12)) - np.log1p(-np.clip(scores, 1e-12, 1 - 1e-12))
    whole = Arrays("untouched", base.names, names, scores, logits)
    last = len(names) - 1
    turn = np.arange(len(names))[::-1]
    yield whole
    yield replace(
        whole, kind="rows in another order", img_name=names[turn], y_pred=scores[turn], reference=logits[turn]
    )
    yield replace(whole, kind="row dropped", img_name=names[1:], y_pred=scores[1:], reference=logits[1:])
    yield replace(whole, kind="name dropped", img_name=names[1:])
    yield replace(whole, kind="score dropped", y_pred=scores[1:], reference=logits[1:])
    for row in (0, last):
        twice = np.append(np.arange(len(names)), row)
        yield replace(whole, kind="row twice", img_name=names[twice], y_pred=scores[twice], reference=logits[twice])
    for wrong in (np.nan, np.inf, -np.inf, -0.0, -1e-9, np.nextafter(1, 2), 2, 50, -5e-324, 1e300):
        yield replace(whole, kind="a score", y_pred=np.where(np.arange(len(names)) == last, wrong, scores))
    for constant in (0.0, 0.5, 1.0, np.nan):
        yield replace(whole, kind="all scores the same", y_pred=np.full(len(names), constant))
    yield replace(whole, kind="all scores the same", y_pred=0.5 + 1e-13 * np.arange(len(names)))
    yield replace(whole, kind="scores turned around", y_pred=1 - scores)
    yield replace(whole, kind="scores turned around", y_pred=-scores)
    yield replace(whole, kind="logits for scores", y_pred=logits)
    for kind in ("float32", "float16", "longdouble", "int64", "bool", "complex", "str", "object"):
        yield replace(whole, kind="type of the scores", y_pred=scores.astype(kind))
    yield replace(whole, kind="type of the scores", y_pred=scores.astype("int64").astype("datetime64[s]"))
    for shape in ((-1, 1), (1, -1), (1, 1, -1)):
        yield replace(whole, kind="shape", y_pred=scores.reshape(shape))
        yield replace(whole, kind="shape", img_name=names.reshape(shape))
    yield replace(whole, kind="shape", img_name=np.array(base.names[0]), y_pred=np.array(0.5))
    yield replace(whole, kind="empty", img_name=names[:0], y_pred=scores[:0], reference=logits[:0])
    yield replace(whole, kind="empty", expected=[], img_name=names[:0], y_pred=scores[:0], reference=logits[:0])
    yield replace(whole, kind="empty", expected=[])
    for wrong in (None, np.nan, 7, b"a.jpg", ("a.jpg",), ["a.jpg"], {}):
        objects = names.astype(object)
        objects[last] = wrong
        yield replace(whole, kind="a name's type", img_name=objects)
        yield replace(whole, kind="a name's type", expected=[*base.names[:-1], wrong])  # type: ignore[list-item]
    yield replace(whole, kind="a name's type", img_name=names.astype(object))
    yield replace(whole, kind="a name's type", img_name=np.array([name.encode() for name in base.names]))
    yield replace(whole, kind="template", expected=base.names[::-1])
    yield replace(whole, kind="template", expected=base.names[1:])
    yield replace(whole, kind="template", expected=[*base.names, base.names[0]])
    yield replace(whole, kind="template", expected=[*base.names, "more.jpg"])
    yield from _renamed(whole)


def _renamed(whole: Arrays) -> Iterator[Arrays]:
    """One name changed, in the scores alone or in the template too, where it is an honest if odd name."""
    for changed in [*_names(whole.expected[-1]), "\ud800.jpg", "a\r\nb.jpg", "line\nfeed.jpg", "#", "=1+1"]:
        names = [*whole.expected[:-1], changed]
        array = np.array(names, dtype=object)
        yield replace(whole, kind="a name", img_name=array)
        yield replace(whole, kind="a name and the template's", img_name=array, expected=names)
