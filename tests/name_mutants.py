"""Names of all kinds, brought in everywhere a name comes in, and read back from everything that it is written to.

A name is either accepted, and then comes back from every file and page letter by letter, or refused with its file and
line, or its folder. An independent rule decides which names must be refused; it shares no code with ffdi's rule.
"""

from __future__ import annotations

import ast
import asyncio
import csv
import io
import json
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from markdown_it import MarkdownIt

from ffdi.commands import leaderboard, sweep
from ffdi.commands.shared import groups
from ffdi.commands.shared.options import LeaderboardOptions
from ffdi.config.schema import DataConfig, FoldsConfig
from ffdi.core import console
from ffdi.core.errors import ConfigError, DataError, FFDIError
from ffdi.data.labels import columns, folders, landmarks, layout, metadata, table
from ffdi.data.labels.image_names import ListedImages
from ffdi.data.labels.table import Table
from ffdi.data.splits import folds, image_list
from ffdi.evaluation import error_analysis, predictions
from ffdi.evaluation.predictions import OofPredictions
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.workspace import Workspace
from ffdi.export import standalone
from ffdi.inference import bundle, server
from ffdi.inference.predict import Part, Shards
from ffdi.inference.worker import Worker
from ffdi.pages import template
from ffdi.reporting import charts, gallery
from ffdi.reporting.page import Page, ReportTable, Section
from ffdi.submission import gate as submission
from ffdi.submission import kaggle, kaggle_bundle
from ffdi.submission.gate import Direction, Template

ACCEPTED, REFUSED = "accepted", "refused"
CHANGED, DROPPED, TRACEBACK = "CHANGED", "DROPPED", "TRACEBACK"
LET_IN, FOR_NOTHING = "LET IN", "REFUSED FOR NOTHING"
FAULTS = (CHANGED, DROPPED, TRACEBACK, LET_IN, FOR_NOTHING)
OUTCOMES = (ACCEPTED, REFUSED, *FAULTS)
OF_CATEGORY = 6
"""Characters of each of Unicode's general categories."""
TOML = '[model]\nbackbone = "test_resnet"\npretrained = false\n'


class Result(NamedTuple):
    """What became of a name on a way."""

    way: str
    name: str
    outcome: str
    detail: str = ""


# --- names -----------------------------------------------------------------------------------------------------------

FORMULAS = [
    "=cmd|' C calc'!A0",
    "+cmd|' C calc'!A0",
    "-2+3+cmd|' C calc'!A0",
    "@SUM(1+1)*cmd|' C calc'!A0",
    '=HYPERLINK("http:evil","x")',
    "=WEBSERVICE(A1)",
    "  =SUM(1)",
    "＝SUM(1)",
    "x;=cmd|' C calc'!A0",
    "='file:evil.ods'#$Sheet1.A1",
]
WORDS = [
    *("007", "NA", "nan", "NaN", "None", "null", "N", "1e5", "-1.5", "+1", "1E400", "inf", "-inf", "true", "False"),
    *("0x10", "1_000", "1,5", "½", "١٢", "", " ", "''", '""', "#N", "img_name", "y_pred", "y_pred,img_name"),
    *("DATA", "IMAGES", "OUTPUT", "WORK", "str(WORK)", "__init__", "self", "None)", "{name}", "{0}", "%s", "%(x)s"),
    *("[bold]", "[", "[red]x[", "[link=x]", ":smile:", ":warning:", "\\[bold]", "*x*", "_x_", "`x`", "~~x~~"),
    *("|", "a|b", "<b>", "<script>alert(1)<", "&amp;", "&lt;", "&", "'onerror='x", '"onerror="x', "<!--", "]]>"),
    *("{{ 7*7 }}", "{% x", "$HOME", "$(id)", "`id`", "; id", "&& id", "| id", "> x"),
    *("*", "?", "~", "!x", "-rf", "--help", "-", "--", "a b"),
    *("=1", "@home", "+x", "-1", "-a", "#010101", ' id="x"', "font: 9px x;", "font-family: x;", "_nolegend_", "$x$"),
    *("\\", "\\n", "\\x1b[31m", "\\u2028", "a\\", '\\"', "C:", "C:x", "..", ".", "...", "a/../b", "./x", "a//b", "/x"),
    *("\r\n", "\n\n", '"', '""', "'", ",", ",,", ";", "\t", " x", "x ", "\u3000x", "x\u00a0", "a;b", "a,b", 'a"b"'),
    *("é", "e\u0301", "ﬁ", "Å", "A\u030a", "한", "\u1112\u1161\u11ab", "か\u3099", "が", "ё", "İ", "ß", "ſ"),
    *("👨\u200d👩\u200d👧", "❤\ufe0f", "🏳\ufe0f\u200d🌈", "👍🏽", "🇩🇪", "می\u200cخواهم", "क\u094d\u200dष"),
    *("葛\U000e0100", "\u200d", "\u200c", "a\u200db"),
    *("🏴\U000e0067\U000e0062\U000e007f", "\ufeff", "\u202egpj", "\u2066x\u2069"),
    *("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31m", "\x1b]8;;http://x\x1b\\x", "\r\x1b[K", "\udce9", "\ud83d"),
    *FORMULAS,
]
"""Whatever a reader, a shell, a page or a person might take for something else."""


def characters() -> list[str]:
    """Representatives of each general category; all controls, format characters, separators and blanks."""
    by_category: dict[str, list[str]] = {}
    for code in range(0x110000):
        by_category.setdefault(unicodedata.category(chr(code)), []).append(chr(code))
    whole = ("Cc", "Cf", "Zl", "Zp", "Zs")
    spread = {
        category: found if category in whole else found[:: max(1, len(found) // (OF_CATEGORY - 1))] + found[-1:]
        for category, found in sorted(by_category.items())
    }
    return list(dict.fromkeys(one for found in spread.values() for one in found))


def every(step: int = 1) -> list[str]:
    """Each character and word at the start, in the middle, at the end and alone; every `step`-th of them."""
    parts = [*characters(), *WORDS]
    placed = [name for one in parts for name in (f"{one}x.jpg", f"x{one}y.jpg", f"x{one}.jpg", f"x.jpg{one}", one)]
    return [*dict.fromkeys(placed)][::step]


CONTROLS = ("Cc", "Cs", "Zl", "Zp")
BIDI = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def must_refuse(name: str) -> bool:
    """Whether a name ends lines, steers terminals, reorders text, is not UTF-8, or is run by a spreadsheet."""
    unfit = any(unicodedata.category(one) in CONTROLS or unicodedata.bidirectional(one) in BIDI for one in name)
    marks = any(one in name for one in "\u200e\u200f\u061c\ufeff\u200b\u2060")
    return unfit or marks or any(name.startswith(one) for one in FORMULAS)


def must_accept(name: str) -> bool:
    """True for a harmless name."""
    hidden = any(unicodedata.category(one) in (*CONTROLS, "Cf") for one in name)
    first = unicodedata.normalize("NFKC", name).lstrip()[:1]
    return not hidden and first not in ("", *"=+-@./\\") and not re.search(r"[;/\\]|^\w:|\.\.", name)


def grade(way: str, name: str, outcome: str, detail: str = "") -> Result:
    """A result, which is a fault if the independent rule does not agree."""
    if outcome == ACCEPTED and must_refuse(name):
        return Result(way, name, LET_IN, detail)
    if outcome == REFUSED and must_accept(name):
        return Result(way, name, FOR_NOTHING, detail)
    return Result(way, name, outcome, detail)


def attempt(
    way: str, names: Iterable[str], ask: Callable[[str], str], expected_text: Callable[[str], str]
) -> list[Result]:
    """Asks with each name alone: `ask` returns the result; the text of a refusal contains `expected_text`."""
    found = []
    for name in names:
        try:
            got = ask(name)
            found.append(grade(way, name, ACCEPTED if got == name else CHANGED, repr(got)))
        except FFDIError as error:
            text = str(error)
            clear = expected_text(name) in text and not unsafe(text)
            found.append(grade(way, name, REFUSED if clear else DROPPED, text))
        except Exception as error:
            found.append(Result(way, name, TRACEBACK, f"{type(error).__name__}: {error}"))
    return found


def compared(way: str, names: Sequence[str], read: Callable[[], Sequence[str]], check: bool = False) -> list[Result]:
    """Whether these names, which are accepted, come back in their order; `check`: and whether they may be."""
    accepted = grade if check else Result
    try:
        found = list(read())
    except Exception as error:
        return [Result(way, name, TRACEBACK, f"{type(error).__name__}: {error}") for name in names]
    if len(found) != len(names):
        there = set(found)
        return [accepted(way, name, ACCEPTED if name in there else DROPPED) for name in names]
    pairs = zip(names, found, strict=True)
    return [accepted(way, name, ACCEPTED if name == got else CHANGED, repr(got)) for name, got in pairs]


def unsafe(text: str) -> bool:
    """Whether a text that is shown holds what may not reach a terminal; line feeds are its own."""
    return any(must_refuse(one) for one in text.replace("\n", ""))


# --- tables ----------------------------------------------------------------------------------------------------------


def can_be_file(name: str) -> bool:
    parts = name.split("/")
    encodable = all(one < "\ud800" or "\udc80" <= one <= "\udcff" or one > "\udfff" for one in name)
    plain = not name.startswith("/") and all(part not in ("", ".", "..") for part in parts)
    return (
        plain and "\0" not in name and encodable and max(len(part.encode("utf-8", "replace")) for part in parts) < 200
    )


def put(folder: Path, names: Iterable[str]) -> list[str]:
    """Makes files of these names; gives those that there can be."""
    made = []
    for name in names:
        if can_be_file(name):
            try:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).touch()
            except OSError:  # a folder is called so
                continue
            made.append(name)
    return made


def quoted_csv(rows: Iterable[Sequence[str]]) -> bytes:
    """A CSV as another program writes it: all in quotes."""
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return file.getvalue().encode("utf-8", "surrogatepass")


def ends(rows: Iterable[Sequence[str]]) -> list[int]:
    """The line of a file in which each row ends."""
    lines, found = 0, []
    for row in rows:
        lines += len(re.findall(rb"\r\n|\r|\n", quoted_csv([row])))
        found.append(lines)
    return found


def from_table(
    way: str, names: Sequence[str], path: Path, header: list[str], row: Callable[[str, int], list[str]], read: Read
) -> tuple[list[Result], list[str]]:
    """Results of a CSV with a row for each name, and the names that were accepted.

    What is no text, which ends the reading, is tried alone; of all else what is refused has to be named by its line,
    and the rest has to come back in its order.
    """
    alone = [name for name in names if "\0" in name or any(unicodedata.category(one) == "Cs" for one in name)]

    def ask(name: str) -> str:
        path.write_bytes(quoted_csv([header, row(name, 0)]))
        return read([name])[0]

    results = attempt(way, alone, ask, lambda _: f"{path} line 2: ")
    kept = [name for name in names if name not in set(alone)]
    rows = [header, *(row(name, number) for number, name in enumerate(kept))]
    path.write_bytes(quoted_csv(rows))
    refused: dict[str, str] = {}
    try:
        read(kept)
    except FFDIError as error:
        by_line = dict(zip(ends(rows)[1:], kept, strict=True))
        for problem in error.problems:
            if found := re.match(rf"{re.escape(path.name)} line (\d+): ", problem):
                refused[by_line[int(found[1])]] = problem
    except Exception as error:
        return [Result(way, name, TRACEBACK, f"{type(error).__name__}: {error}") for name in names], []
    results += [
        grade(way, name, REFUSED if not unsafe(problem) else DROPPED, problem) for name, problem in refused.items()
    ]
    left = [name for name in kept if name not in refused]
    path.write_bytes(quoted_csv([header, *(row(name, number) for number, name in enumerate(left))]))
    return [*results, *compared(way, left, lambda: read(left), check=True)], left


Read = Callable[[Sequence[str]], Sequence[str]]
"""Reads a table of these names: what it takes them for."""


def images(folder: Path, names: Sequence[str]) -> Iterator[Result]:
    """As images of a label file and of a folder; then through everything that names images."""
    split = folder / "trainset"
    split.mkdir(parents=True)
    files = put(split, names)
    labels = folder / "train_label.txt"

    def read(_: Sequence[str]) -> list[str]:
        problems: list[str] = []
        found = table.read_labels("train", split, labels, DataConfig(), problems)
        if problems:
            raise DataError("bad rows", problems=problems)
        return found.img_name.tolist()

    header = ["img_name", "target"]
    results, kept = from_table("image in a label file", files, labels, header, lambda name, n: [name, str(n % 2)], read)
    yield from results
    flat = folder / "flat"
    flat.mkdir()
    shown = put(flat, [name for name in files if "/" not in name and name.lower().endswith(".jpg")])
    yield from from_folder(flat, shown)
    yield from written(folder, split, kept)


def from_folder(folder: Path, names: Sequence[str]) -> Iterator[Result]:
    """As the files of a folder."""
    way = "file in a folder"
    try:
        folders.list_folder(folder)
        refused: dict[str, str] = {}
    except DataError as error:
        starts = {start: one for one in names for start in (f"{one} ", f"{one!r} ")}
        refused = {starts[one]: problem for problem in error.problems for one in starts if problem.startswith(one)}
        if len(refused) != len(error.problems) or unsafe(str(error)):
            yield Result(way, "", DROPPED, str(error))
    for name, problem in refused.items():
        yield grade(way, name, REFUSED, problem)
        (folder / name).unlink()
    left = sorted(name for name in names if name not in refused)
    yield from compared(way, left, lambda: folders.list_folder(folder).img_name.tolist(), check=True)


def both(way: str, names: Sequence[str], text: str, column: str = "img_name") -> Iterator[Result]:
    """A text that ffdi has written, read by pandas and by the csv module."""
    raw = text.encode()

    def by_pandas() -> list[str]:
        return pd.read_csv(io.BytesIO(raw), dtype=str, keep_default_na=False)[column].tolist()

    def by_csv() -> list[str]:
        return [row[column] for row in csv.DictReader(io.StringIO(raw.decode(), newline=""))]

    yield from compared(f"{way}, by pandas", names, by_pandas)
    yield from compared(f"{way}, by csv", names, by_csv)


def written(folder: Path, split: Path, names: list[str]) -> Iterator[Result]:
    """Names that are accepted, through every file that ffdi writes of images."""
    count = len(names)
    target, fold = np.arange(count) % 2, np.arange(count) // 2 % 2
    group = np.array([f"g{number // 2}" for number in range(count)])
    data = Table("train", split, np.array(names), target, group, folder / "train_label.txt")
    path = folder / "written.csv"

    text = folds.format_folds(data, fold)
    path.write_bytes(text.encode())
    yield from both("folds.csv", names, text)
    yield from compared("folds.csv", names, lambda: folds.read_assignment(path).img_name.tolist())
    assert folds.read_folds(path, data, FoldsConfig(k=2)).tolist() == fold.tolist()

    scan: Any = SimpleNamespace(table=data, sha256=np.zeros((count, 32), np.uint8), usable=np.full(count, True))
    text = image_list.format_image_list(scan)
    yield from both("images.csv", sorted(names), text)
    other = image_list.format_image_list(
        SimpleNamespace(table=data, sha256=np.ones((count, 32), np.uint8), usable=scan.usable)
    )  # type: ignore[arg-type]
    yield from compared(
        "images.csv",
        sorted(names),
        lambda: [one.removesuffix(" other bytes") for one in image_list.list_differences(text, other)],
    )

    logit = np.linspace(-3, 3, count).astype(np.float32)
    own = OofPredictions(data.img_name, fold, target, logit, np.full(count, "0" * 12))
    text = own.to_csv()
    path.write_bytes(text.encode())
    yield from both("oof.csv", names, text)
    deal = data.img_name, fold, target
    yield from compared(
        "oof.csv",
        names,
        lambda: predictions.merge_predictions([predictions.read_predictions(path)], *deal).img_name.tolist(),
    )

    y_pred = 1 / (1 + np.exp(-logit.astype(np.float64)))
    gate = submission.build_submission(
        Template(names, names), data.img_name[::-1], y_pred[::-1], Direction(logit[::-1], {"x": 0.9})
    )
    yield from both("submission.csv", names, gate.content)
    path.write_bytes(gate.content.encode())
    find = ListedImages(names, names, "trainset", "").find
    yield from compared("submission.csv as a template", names, lambda: submission.read_template(path, find).ids)
    yield from shards(data, y_pred)
    yield from points(folder, data)
    yield from goldens(folder, data)
    yield from predict_alone(names)


def shards(data: Table, y_pred: np.ndarray) -> Iterator[Result]:
    """onnx_scores.csv, joined of shards, as a list that `--images` takes."""
    output = data.folder / "onnx_scores.csv"
    pieces = Shards(output, data, "graph cpu")

    def scorer(ranges: Iterable[range]) -> Iterator[Part]:
        for rows in ranges:
            yield Part(rows, y_pred[rows.start : rows.stop].astype(np.float32), [])

    names = data.img_name.tolist()
    list(pieces.score(scorer))
    joined = pieces.join(output)
    assert np.array_equal(joined, y_pred.astype(np.float32))
    yield from both("onnx_scores.csv", names, output.read_bytes().decode())
    yield from compared("onnx_scores.csv as --images", names, lambda: table.read_list(output).img_name.tolist())
    pieces.remove()


def points(folder: Path, data: Table) -> Iterator[Result]:
    """landmarks.csv."""
    path, names = folder / "landmarks.csv", data.img_name.tolist()
    header = ["img_name", *(f"{axis}{number}" for number in range(3) for axis in "xy")]
    path.write_bytes(quoted_csv([header, *([name, "0", "0", "1", "0", "0", "1"] for name in names)]))
    problems: list[str] = []
    found = landmarks.read_landmarks(path, data, DataConfig(), problems)
    known = [name if np.isfinite(row).all() else "" for name, row in zip(names, found, strict=True)]
    yield from compared("landmarks.csv", names, lambda: known)
    assert problems == []


def goldens(folder: Path, data: Table) -> Iterator[Result]:
    """golden.csv: files are numbered there, and keep their endings."""
    for start in range(0, len(data), 100):
        part = data.take(np.arange(start, min(start + 100, len(data))))
        path = folder / f"golden{start}" / "golden.csv"
        bundle.write_golden(path, part, np.zeros(len(part), np.float32))
        files = [f"{number:02d}{Path(name).suffix.lower()}" for number, name in enumerate(part.img_name.tolist())]
        yield from compared("golden.csv", files, lambda path=path: [name for name, _ in bundle._read_rows(path)])  # type: ignore[misc]


class Session:
    """A fake session of ONNX Runtime."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="images", shape=[1, 8, 8, 3])]

    def get_modelmeta(self) -> Any:
        return SimpleNamespace(custom_metadata_map={"framing": "squash"})

    def run(self, *_: object) -> list[np.ndarray]:
        return [np.array([0.5])]


def predict_alone(names: list[str]) -> Iterator[Result]:
    """What predict.py of an export prints."""
    out, err = io.StringIO(), io.StringIO()
    session = mock.patch.object(standalone.onnxruntime, "InferenceSession", Session)
    load = mock.patch.object(standalone, "load_image", return_value=np.zeros((8, 8, 3), np.uint8))
    with session, load, redirect_stdout(out), redirect_stderr(err):
        standalone.main(names)
    text = out.getvalue()
    yield from compared("predict.py", names, lambda: [row[0] for row in csv.reader(io.StringIO(text, newline=""))])


def read_groups(folder: Path, names: Sequence[str]) -> Iterator[Result]:
    """As groups: a column of the label file, and groups.csv; and as kinds in further columns."""
    split = folder / "trainset"
    split.mkdir(parents=True)
    place = {name: f"{number}.jpg" for number, name in enumerate(names)}
    put(split, place.values())
    labels = folder / "train_label.txt"
    names = [name for name in names if name.strip(" \t") == name and name]  # blanks around a field are no part of it

    def found(column: str | None = None) -> list[str]:
        train = layout.find_dataset(folder, DataConfig(group_column=column)).split("train")
        assert train.group is not None
        return train.group.tolist()

    header = ["img_name", "target", "group"]
    row = lambda name, _: [place[name], "0", name]  # noqa: E731
    yield from from_table("group", names, labels, header, row, lambda _: found("group"))[0]
    labels.write_text("img_name,target\n" + "".join(f"{image},0\n" for image in place.values()))

    def joined(wanted: Sequence[str]) -> list[str]:
        labels.write_text("img_name,target\n" + "".join(f"{place[name]},0\n" for name in wanted))
        return found()

    path = folder / "groups.csv"
    yield from from_table("groups.csv", names, path, header[::2], lambda name, _: [place[name], name], joined)[0]
    path.unlink()
    yield from kinds(folder, split, names)
    for name in names:
        path.write_bytes(quoted_csv([[name], ["x"]]))
        yield from attempt(
            "column", [name], lambda _: columns.read_header(path, DataConfig()).columns[0], lambda _: f"{path} line "
        )


def kinds(folder: Path, split: Path, names: Sequence[str]) -> Iterator[Result]:
    """As values of further columns, of which each may have a few, through the slices of a score."""
    path = folder / "families.csv"
    for start in range(0, len(names), 40):
        some = names[start : start + 40]
        place = {name: f"{number}.jpg" for number, name in enumerate(some)}

        def read(wanted: Sequence[str], place: dict[str, str] = place) -> list[str]:
            image = np.array([place[name] for name in wanted] + ["x.jpg", "y.jpg"])
            data = Table("train", split, image, None, None, folder / "none")
            value = metadata.read_attributes(folder, data, DataConfig())["family"]
            target = np.arange(len(value)) % 2
            parts = {one.value for one in error_analysis.slice_by(value, target, np.zeros(len(value)), None)}
            return [one if one in parts else "" for one in value.tolist()[: len(wanted)]]

        header = ["img_name", "family"]
        row = lambda name, _, place=place: [place[name], name]  # noqa: E731
        found, _ = from_table("family", some, path, header, row, lambda wanted: read_more(path, wanted, read))
        yield from found
    path.unlink()


def read_more(path: Path, wanted: Sequence[str], read: Read) -> Sequence[str]:
    """With two values more at the file's end, for a column of one value sorts nothing."""
    content = path.read_bytes()
    path.write_bytes(content + b"x.jpg,plain\ny.jpg,other\n")
    try:
        return read(wanted)
    finally:
        path.write_bytes(content)


# --- folders ---------------------------------------------------------------------------------------------------------


def experiments(folder: Path, names: Sequence[str]) -> Iterator[Result]:
    """As folders of experiments, and of their variants, through all that names them."""
    workspace = Workspace(folder, folder)
    named = [name for name in names if can_be_file(name) and "/" not in name]
    made = [name for name in named if not (workspace.experiments_folder / name).exists()]
    for name in made:
        (workspace.experiments_folder / name).mkdir(parents=True)
        (workspace.experiments_folder / name / "config.toml").write_text(TOML)
    text = lambda name: console.names.escape(name)  # noqa: E731
    results = attempt("experiment", made, lambda name: workspace.get_experiment(name).name, text)
    yield from results
    path = workspace.experiments_folder
    yield from attempt("experiment by path", made, lambda name: workspace.get_experiment(str(path / name)).name, text)
    kept = [one.name for one in results if one.outcome == ACCEPTED]

    def variant(name: str) -> str:
        found = workspace.create_variant(workspace.get_experiment(name), {"train.lr": 0.001})
        return found.name.removesuffix("-lr_0.001")

    yield from attempt("variant", kept, variant, text)
    for one in path.glob("*-lr_0.001"):
        (one / "config.toml").unlink()
        one.rmdir()
    yield from boards(workspace, [name for name in made if name not in set(kept)], kept)
    yield from attempt("next command", kept, lambda name: shlex.split(groups.repeat_flags([name], name))[1], text)
    trials = [sweep.Trial(Experiment(path / name), {"train.lr": 0.1}, scores=[0.5]) for name in kept]
    yield from both("sweep.csv", kept, sweep._format_csv(trials, [1]), "experiment")


def boards(workspace: Workspace, refused: Sequence[str], kept: Sequence[str]) -> Iterator[Result]:
    """leaderboard.csv and .md; unsafe experiments are named in warnings."""
    with console.capture_output() as output:
        leaderboard.run(workspace, LeaderboardOptions(all=True))
    for name in refused:
        content = [what for what in output.warnings if f"/{console.names.escape(name)} is left out" in what]
        yield grade("leaderboard, left out", name, REFUSED if content else DROPPED)
    yield from both(
        "leaderboard.csv", sorted(kept), workspace.get_leaderboard_path("csv").read_bytes().decode(), "experiment"
    )
    tokens = (
        MarkdownIt("commonmark").enable("table").parse(workspace.get_leaderboard_path("md").read_text(encoding="utf-8"))
    )
    cells = [after for before, after in pairwise(tokens) if before.type == "td_open"]
    first = cells[:: len(leaderboard.COLUMNS)]
    shown = ["".join(part.content for part in cell.children or ()) for cell in first]
    stripped = [name.strip() for name in sorted(kept)]  # Markdown has no blanks around a cell
    yield from compared("leaderboard.md", stripped, lambda: shown)


def exports(folder: Path, names: Sequence[str]) -> Iterator[Result]:
    """As names of exports, through pages, charts and notebooks."""
    workspace = Workspace(folder, folder)
    text = lambda name: console.names.escape(name)  # noqa: E731
    results = attempt(
        "--name", [name for name in names if name], lambda name: workspace.get_export(["x"], name).name, text
    )
    yield from results
    kept = [one.name for one in results if one.outcome == ACCEPTED]
    yield from attempt("train.ipynb", kept, in_training, text)
    yield from attempt("infer.ipynb", kept, in_inference, text)
    yield from attempt("colab-train.ipynb", kept, in_settings, text)
    for start in range(0, len(kept), 40):
        some = kept[start : start + 40]
        for way, shown in (("chart", on_chart), ("report.html", on_report), ("page of serve", on_serve)):
            yield from compared(way, some, lambda some=some, shown=shown: shown(some))  # type: ignore[misc]


class Words(HTMLParser):
    """The words of elements, by tag."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, str]] = []
        self._tag = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.found += [(f"{tag} {key}", value or "") for key, value in attrs]
        self.found.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == self._tag:
            self.found[-1] = (self._tag, self.found[-1][1] + data)


def on_report(names: list[str]) -> list[str]:
    """The text of a report; its elements do not depend on names."""
    page, other = (Words(reported(some).render()).found for some in (names, ["x"] * len(names)))
    assert [tag for tag, _ in page] == [tag for tag, _ in other]
    text = {tag: [words for one, words in page if one == tag] for tag in ("title", "h1", "p", "th", "summary", "pre")}
    assert text["title"] == [f"{names[0]}: ffdi report"]
    assert text["h1"] == names[:1]
    assert text["summary"] == text["pre"] == names[-1:]
    assert text["th"][1:] == names
    return text["p"][: len(names)]


def reported(names: list[str]) -> Page:
    sheet = ReportTable("names", [""], [[name] for name in names])
    counts = dict.fromkeys(gallery.KINDS, 0)
    return Page(names[0], names, [], [], [Section("Names", tables=[sheet])], [], counts, "", [], {names[-1]: names[-1]})


def on_serve(names: list[str]) -> list[str]:
    """What the page of `serve` calls the export and its experiments."""
    page, other = (Words(offered(some)).found for some in (names, [f"x{number}" for number in range(len(names))]))
    assert [tag for tag, _ in page] == [tag for tag, _ in other]
    ((_, title),) = [one for one in page if one[0] == "title"]
    text = next(words for tag, words in page if tag == "p")
    assert all(f" {name}: AUC 0.5000 (OOF, pooled)." in text for name in names)
    return names if title == f"{', '.join(names)}: real or fake?" else []


def offered(names: list[str]) -> str:
    explainer = SimpleNamespace(name=", ".join(names), oof_auc=dict.fromkeys(names, 0.5))
    return template.render(
        "serve.html.j2", explainer=explainer, pooled="OOF, pooled", nonce="n", bytes=10**6, pixels=10**6
    )


def on_chart(names: list[str]) -> list[str]:
    """The text of a chart's legend."""
    one = np.arange(8) % 2, np.linspace(0, 1, 8)
    drawn = ElementTree.fromstring(charts.draw_precision_recall(dict.fromkeys([*names, "plain", "other"], one)))
    words = ["".join(text.itertext()) for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    legend = words[words.index("precision") + 1 :]
    assert drawn.attrib["aria-label"] == f"Precision over recall of {', '.join([*names, 'plain', 'other'])}"
    return legend[: len(names)]


def executed(text: str) -> list[tuple[Any, ...]]:
    """The calls of a notebook's cells except the first."""
    cells = json.loads(text)["cells"]
    head = "".join(cells[0]["source"])
    assert head.startswith("# ")
    assert head.count("\n") == 1
    calls: list[tuple[Any, ...]] = []
    scope: dict[str, Any] = {
        "run": lambda *words: calls.append(words) or True,
        "copy_folder": lambda *paths: calls.append(paths),
        "shutil": SimpleNamespace(**dict.fromkeys(("copy", "copyfile"), lambda *paths: calls.append(paths))),
        **{"RESULTS": PurePosixPath("/results"), "fetch": lambda *_: "", "DATA_FROM": "", "print": lambda *_: None},
        **{"WORK": PurePosixPath("/kaggle/working"), "BUNDLE": PurePosixPath("/bundle")},
        "INPUT": SimpleNamespace(rglob=lambda _: []),
        "gather_inputs": lambda _, names: f"data with {names}",
        "plain_errors": nullcontext,
    }
    for number, cell in enumerate(cells[1:]):
        code = compile("".join(cell["source"]), "cell", "exec")
        if number:
            exec(code, scope)
    return calls


def in_training(name: str) -> str:
    """What a notebook trains and exports under."""
    flags = ("--experiment", name, "--experiment", "other")
    data = f"data with {[name]}"
    work, saved = PurePosixPath("/kaggle/working"), PurePosixPath("/results")
    kept: dict[str, list[tuple[Any, ...]]] = {
        "Kaggle": [],
        "Colab": [
            (work / "exports", saved / "exports"),
            (work / "submission.csv", saved / "submission.csv"),
        ],
    }
    for service, last in kept.items():
        calls = executed(kaggle_bundle.build_training_notebook(service, name, [name, "other"], [name]))
        copied = ((saved / "experiments", work / "experiments"), (work / "experiments", saved / "experiments"))
        expected: list[tuple[Any, ...]] = [
            *(copied[:1] if last else ()),
            (PurePosixPath("/bundle/experiments"), work / "experiments"),
            (PurePosixPath("/bundle/weights"), work / "weights"),
            (PurePosixPath("/bundle/pseudo_labels"), work / "data" / "pseudo_labels"),
            ("invoke", "train-folds", *flags, "--data", data, "--max-time", "1h" if last else "11h"),
            *(copied[1:] if last else ()),
            *(
                ("invoke", command, *flags, "--name", name, "--data", data)
                for command in ("ensemble-submit", "export-onnx", "report")
            ),
            (work / f"exports/{name}/submission.csv", "/kaggle/working/submission.csv"),
            *last,
        ]
        if calls != expected:
            return repr(calls)
    return name


def in_inference(name: str) -> str:
    """What a notebook scores with."""
    flags = ("--experiment", name, "--experiment", "other", "--name", name)
    data, work = f"data with {[name]}", PurePosixPath("/kaggle/working")
    for service in kaggle_bundle.SERVICES:
        calls = executed(kaggle_bundle.build_inference_notebook(service, name, [name, "other"], [name]))
        expected: list[tuple[Any, ...]] = [
            (PurePosixPath("/bundle/export"), work / f"exports/{name}"),
            ("invoke", "predict-onnx", *flags, "--data", data, "--output", "/kaggle/working/submission.csv"),
        ]
        if service == "Colab":
            expected.append((work / "submission.csv", PurePosixPath("/results/submission.csv")))
        if calls != expected:
            return repr(calls)
    return name


def in_settings(name: str) -> str:
    """The folders that the first cell of a notebook on Colab names."""
    cells = json.loads(kaggle_bundle.build_training_notebook("Colab", name, [name], [name]))["cells"]
    tree = ast.parse("".join(cells[1]["source"]))
    found = {
        one.targets[0].id: ast.literal_eval(one.value)
        for one in tree.body
        if isinstance(one, ast.Assign)
        and isinstance(one.targets[0], ast.Name)
        and one.targets[0].id.isupper()
        and isinstance(one.value, ast.Constant)
    }
    folder = f"/content/drive/MyDrive/ffdi/{name}"
    named = found["BUNDLE_FROM"] == folder and found["RESULTS_TO"] == f"{folder}-results"
    return name if named else repr(found)


# --- words -----------------------------------------------------------------------------------------------------------


def printed(names: Sequence[str]) -> Iterator[Result]:
    """Through every way in which something is text to a person or a program; any name may come here."""
    for name in names:
        try:
            yield Result("errors and lines", name, ACCEPTED if not (fault := _find_fault(name)) else CHANGED, fault)
        except Exception as error:
            yield Result("errors and lines", name, TRACEBACK, f"{type(error).__name__}: {error}")


def _find_fault(name: str) -> str:
    """What is wrong with how a name is shown; empty where nothing is."""
    error = ConfigError(f"no '{name}'", problems=[name], hint=f"pass {name}")
    if unsafe(str(error)) or str(error).count("\n") != 2:
        return repr(str(error))
    with console.capture_output() as output:
        _say(name)
    line = output.json(error={"what": error.what})
    content = json.loads(line)
    if (
        unsafe(line)
        or "\n" in line
        or (content["error"]["what"], content["lines"]) != (f"no '{name}'", [name, name, name])
    ):
        return repr(line)
    if content["tables"][0] != {"heading": name, "columns": ["", name], "rows": [[name, name]]}:
        return repr(content["tables"])
    out = io.StringIO()
    terminal = {"file": out, "force_terminal": True, "color_system": None, "width": 10_000, **console.LITERAL}
    with mock.patch.object(console, "_console", return_value=console.Console(**terminal)):
        _say(name)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "")
    shown = console.names.escape(name)
    lines = 2 + 2 + 1 + 2 + 1 + 5  # say and title, a warning of two, a file, two above a bar, a table's
    escaped = ascii(shown)[1:-1]  # in a table, of what has no width
    there = text.count(shown) + (text.count(escaped) if escaped != shown else 0)
    if unsafe(text) or there < 10 or (shown and text.strip("\n").count("\n") > lines):
        return repr(text)
    return ""


def _say(name: str) -> None:
    console.say(name)
    console.title(name)
    console.warn(name, [name])
    console.written(Path("x") / PurePosixPath(name.replace("\0", "\x01")).name, about=name)
    with console.bar("x", 2) as bar:
        bar.at(1, name)
        bar.say(name)
        bar.warn(name)
    console.table(name, ["", name], [(name, name)])


def served(names: Sequence[str]) -> list[Result]:
    """As the img_name of a request."""
    explainer = SimpleNamespace(score=lambda _content, name, _check: {"img_name": name, "y_pred": "0.5"}, explain=None)
    app = server.build_app(explainer, server.Limits("127.0.0.1", 100), Worker(1))  # type: ignore[arg-type]

    def ask(name: str) -> str:
        status, content = asyncio.run(_post(app, f"img_name={quote(name, safe='')}"))
        if unsafe(content) or status not in (200, 400):
            raise AssertionError(content)
        content = json.loads(content)
        if status == 400:
            raise DataError(content["error"])
        return str(content["img_name"])

    texts = [name for name in names if not any(unicodedata.category(one) == "Cs" for one in name)]
    return attempt("img_name of serve", texts, ask, lambda name: console.names.quote(name))


async def _post(app: Any, query: str) -> tuple[int, str]:
    """Asks an application without a network."""
    sent: list[Any] = []
    headers = [(b"host", b"127.0.0.1")]
    scope = {
        **{"type": "http", "method": "POST", "path": "/score", "raw_path": b"/score", "root_path": ""},
        **{"query_string": query.encode(), "headers": headers, "http_version": "1.1", "scheme": "http"},
        **{"server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"}},
    }
    given = iter([{"type": "http.request", "body": b"x", "more_body": False}])

    async def receive() -> Any:
        if (message := next(given, None)) is None:
            await asyncio.Event().wait()  # who asks stays until the answer has come
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:]).decode()


def competitions(names: Sequence[str]) -> Iterator[Result]:
    """As what Kaggle's command line is given: nothing may be taken for a flag or end a line."""
    for name in names:
        try:
            kaggle.check_arguments(name, "")
        except ConfigError as error:
            yield Result("--competition", name, REFUSED if not unsafe(str(error)) else DROPPED, str(error))
        else:
            fine = re.fullmatch(r"[A-Za-z0-9_.-]+", name) and not name.startswith("-")
            yield Result("--competition", name, ACCEPTED if fine else LET_IN)
        try:
            kaggle.check_arguments("faces", name)
        except ConfigError as error:
            yield grade("--message", name, REFUSED if not unsafe(str(error)) else DROPPED, str(error))
        else:
            formula = any(name.startswith(one) for one in FORMULAS)  # a message is in no table
            yield grade("--message", "x" if formula else name, ACCEPTED)


# --- all of them -----------------------------------------------------------------------------------------------------


def results(folder: Path, names: Sequence[str]) -> Iterator[Result]:
    """What becomes of these names on every way."""
    yield from images(folder / "images", names)
    yield from read_groups(folder / "groups", names)
    yield from experiments(folder / "experiments", names)
    yield from exports(folder / "exports", names)
    yield from printed(names)
    yield from served(names)
    yield from competitions(names)


def at_fault(found: Iterable[Result]) -> list[Result]:
    return [one for one in found if one.outcome in FAULTS]
