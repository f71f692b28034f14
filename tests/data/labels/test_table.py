from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ffdi.config.schema import DataConfig
from ffdi.core.errors import DataError
from ffdi.data.labels import columns, folders, table
from ffdi.data.labels.table import Table

Put = Callable[..., Path]
HEADER = "img_name,target\n"
UNKNOWN = "is none of 0, 1, real, fake, false, true: map it with data.labels"
ABSOLUTE = "is an absolute path: name its start with data.prefix"
LOOKED_FOR = "looked for .bmp, .dib, .jfif, .jpe, .jpeg, .jpg, .mpo, .png, .tif, .tiff, .webp"
MEND = "next: mend these rows and run the same command again; nothing was written"


def read(labels: Path, config: DataConfig | None = None, name: str = "train") -> tuple[Table, list[str]]:
    problems: list[str] = []
    rows = table.read_labels(name, labels.parent / "trainset", labels, config or DataConfig(), problems)
    return rows, problems


def refusal(labels: Path, config: DataConfig | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read(labels, config)
    return str(caught.value)


@pytest.fixture
def labels(put: Put) -> Callable[..., Path]:
    """labels(content) writes the label file beside trainset/, which holds a.jpg and sub/b.JPG."""
    put("trainset/a.jpg")
    put("trainset/sub/b.JPG")
    return lambda content: put("train_label.txt", content)


# --- what is read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "img_name,target\na.jpg,0\nsub/b.JPG,1\n",
        "img_name,target\na.jpg,0\nsub/b.JPG,1",
        "\ufeffimg_name,target\r\na.jpg,0\r\nsub/b.JPG,1\r\n",
        "\n\nimg_name,target\n\na.jpg,0\n\n\nsub/b.JPG,1\n\n",
        ' img_name , target \n a.jpg , 0 \n "sub/b.JPG", 1\n'.replace(' "', '"'),
        '"img_name","target"\n"a.jpg","0"\n"sub/b.JPG","1"\n',
        "target,img_name\n0,a.jpg\n1,sub/b.JPG\n",
        "img_name,score,target,\na.jpg,.5,0,\nsub/b.JPG,.5,1,\n",
    ],
    ids=["plain", "no last line end", "BOM and CRLF", "empty lines", "spaces", "quotes", "turned", "more columns"],
)
def test_a_label_file_gives_names_and_targets_in_its_order(labels: Callable[..., Path], content: str) -> None:
    rows, problems = read(labels(content))
    assert problems == []
    assert rows.img_name.tolist() == ["a.jpg", "sub/b.JPG"]
    assert rows.target is not None
    assert rows.target.tolist() == [0, 1]
    assert rows.group is None


@pytest.mark.parametrize(
    "name", ["two words.jpg", "图 é.png", "comma,comma.jpg", 'a"quote.jpg', "-x.jpg", "NA", "a;b.jpg"]
)
def test_strange_names_are_found(put: Put, name: str) -> None:
    put(f"trainset/{name}")
    quoted = '"' + name.replace('"', '""') + '"'
    rows, problems = read(put("train_label.txt", f"{HEADER}{quoted},1\n"))
    assert problems == []
    assert rows.path(0).is_file()
    assert rows.img_name.tolist() == [name]


def test_columns_may_have_other_names(labels: Callable[..., Path]) -> None:
    config = DataConfig(image_column="file", target_column="is_fake", group_column="person")
    rows, problems = read(labels("person,file,is_fake\nann,a.jpg,0\nbob,sub/b.JPG,1\n"), config)
    assert problems == []
    assert rows.target is not None
    assert rows.group is not None
    assert (rows.target.tolist(), rows.group.tolist()) == ([0, 1], ["ann", "bob"])


def test_a_test_split_needs_no_labels(labels: Callable[..., Path]) -> None:
    rows, problems = read(labels("img_name\na.jpg\n"), name="test")
    assert problems == []
    assert rows.target is None


def test_a_test_split_keeps_the_labels_it_has(labels: Callable[..., Path]) -> None:
    rows, _ = read(labels("img_name,target\na.jpg,1\n"), name="test")
    assert rows.target is not None
    assert rows.target.tolist() == [1]


def test_a_column_of_a_test_list_with_a_usual_name_is_no_label(labels: Callable[..., Path]) -> None:
    path = labels("id,label\na.jpg,0.5\n")
    assert read(path, name="test")[0].target is None
    rows, problems = read(path, DataConfig(target_column="label"), name="test")
    assert (len(rows), len(problems)) == (0, 1)


def test_taking_rows_keeps_names_targets_and_groups_together(labels: Callable[..., Path]) -> None:
    config = DataConfig(group_column="g")
    rows, _ = read(labels("img_name,target,g\na.jpg,0,x\nsub/b.JPG,1,y\n"), config)
    taken = rows.take(np.array([1, 0, 1]))
    assert taken.target is not None
    assert taken.group is not None
    assert taken.img_name.tolist() == ["sub/b.JPG", "a.jpg", "sub/b.JPG"]
    assert taken.target.tolist() == [1, 0, 1]
    assert taken.group.tolist() == ["y", "x", "y"]


# --- rows that are refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("gone.jpg,0", "gone.jpg is not in trainset/"),
        ("A.jpg,0", "A.jpg is not in trainset/"),
        ("sub,0", "sub is not in trainset/"),
        ("no/where.jpg,0", "no/where.jpg is not in trainset/"),
        ("a.jpg/b.jpg,0", "a.jpg/b.jpg is not in trainset/"),
        ("a.jpg,2", f"label '2' of a.jpg {UNKNOWN}"),
        ("a.jpg,-1", f"label '-1' of a.jpg {UNKNOWN}"),
        ("a.jpg,1.5", f"label '1.5' of a.jpg {UNKNOWN}"),
        ("a.jpg,10", f"label '10' of a.jpg {UNKNOWN}"),
        ("a.jpg,0.7", "label '0.7' of a.jpg is between the classes: out-of-fold scores need 0 or 1"),
        ("a.jpg,.25", "label '.25' of a.jpg is between the classes: out-of-fold scores need 0 or 1"),
        ("a.jpg,", f"label '' of a.jpg {UNKNOWN}"),
        ("a.jpg,nan", f"label 'nan' of a.jpg {UNKNOWN}"),
        ("a.jpg,１", f"label '１' of a.jpg {UNKNOWN}"),
        (",1", "the image name is empty"),
        ("  ,1", "the image name is empty"),
        ("a.jpg", "1 field, the header has 2"),
        ("a.jpg,0,", "3 fields, the header has 2"),
        ("../x.jpg,0", "../x.jpg leaves the folder trainset/"),
        ("sub/../a.jpg,0", "sub/../a.jpg leaves the folder trainset/"),
        ("/etc/passwd,0", f"/etc/passwd {ABSOLUTE}"),
        ("..\\x.jpg,0", "..\\x.jpg leaves the folder trainset/"),
        ("sub\\..\\..\\x.jpg,0", "sub\\..\\..\\x.jpg leaves the folder trainset/"),
        ("C:\\x.jpg,0", f"C:\\x.jpg {ABSOLUTE}"),
        ("C:x.jpg,0", "C:x.jpg leaves the folder trainset/"),
        ("\\x.jpg,0", "\\x.jpg leaves the folder trainset/"),
        ("\\\\server\\share\\x.jpg,0", f"\\\\server\\share\\x.jpg {ABSOLUTE}"),
        (f"{'z' * 300}.jpg,0", f"{'z' * 300}.jpg is not in trainset/"),
        (f"{'z' * 300}/a.jpg,0", f"{'z' * 300}/a.jpg is not in trainset/"),
        ('"a\tb.jpg",0', "the image name 'a\\tb.jpg' has a control character: U+0009"),
    ],
)
def test_a_bad_row_is_refused_with_file_line_and_reason(labels: Callable[..., Path], row: str, problem: str) -> None:
    rows, problems = read(labels(f"{HEADER}\n{row}\nsub/b.JPG,1\n"))
    assert problems == [f"train_label.txt line 3: {problem}"]
    assert rows.img_name.tolist() == ["sub/b.JPG"]


@pytest.mark.parametrize("again", ["a.jpg", "./a.jpg", ".//a.jpg"])
def test_a_duplicate_image_is_refused_in_any_spelling(labels: Callable[..., Path], again: str) -> None:
    _, problems = read(labels(f"{HEADER}a.jpg,0\nsub/b.JPG,1\n{again},1\n"))
    assert problems == [f"train_label.txt line 4: {again} is on line 2 already"]


def test_a_name_with_a_line_end_is_refused(put: Put) -> None:
    put("trainset/a\nb.jpg")
    _, problems = read(put("train_label.txt", f'{HEADER}"a\nb.jpg",0\n'))
    assert problems == ["train_label.txt line 3: the image name 'a\\nb.jpg' has a control character: U+000A"]


def test_all_bad_rows_are_listed_at_once(labels: Callable[..., Path]) -> None:
    _, problems = read(labels(f"{HEADER}gone.jpg,0\na.jpg,7\n../x,1\na.jpg\nsub/b.JPG,1\nsub/b.JPG,0\n"))
    assert problems == [
        "train_label.txt line 5: 1 field, the header has 2",
        "train_label.txt line 2: gone.jpg is not in trainset/",
        f"train_label.txt line 3: label '7' of a.jpg {UNKNOWN}",
        "train_label.txt line 4: ../x leaves the folder trainset/",
        "train_label.txt line 7: sub/b.JPG is on line 6 already",
    ]


def test_an_empty_group_is_refused(labels: Callable[..., Path]) -> None:
    _, problems = read(labels("img_name,target,g\na.jpg,0,\nsub/b.JPG,1,y\n"), DataConfig(group_column="g"))
    assert problems == ["train_label.txt line 2: a.jpg has no group"]


def test_a_header_without_rows_is_refused(labels: Callable[..., Path]) -> None:
    assert read(labels(HEADER))[1] == ["train_label.txt: no image is listed"]


# --- files that are refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "\n\r\n\n", "\ufeff"])
def test_an_empty_file_is_refused(labels: Callable[..., Path], content: str) -> None:
    path = labels(content)
    expected = f"{path} is empty\nnext: it must begin with the header 'img_name,target'"
    assert refusal(path) == expected


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("photo,cls", "no column img_name, target"),
        ("photo;cls", "no column img_name, target"),
        ("gone.jpg,0", "no column img_name, target"),
        ("img_name", "no column target"),
        ("photo,target", "no column img_name"),
        ("img_name,target,target", "duplicate column target"),
    ],
)
def test_a_wrong_header_is_refused(labels: Callable[..., Path], header: str, fault: str) -> None:
    path = labels(f"{header}\na.jpg,0\n")
    assert refusal(path) == (
        f"{path} line 1: {fault}; the header is '{header}', expected 'img_name,target'\n"
        "next: mend the header, or name the columns with data.image_column and data.target_column in config.toml"
    )


AGAIN = "\nnext: correct that line and run the same command again"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"img_name,target\na\0.jpg,0\n", "line 2: a NUL byte; this is not a text file" + AGAIN),
        (b'img_name,target\n"a.jpg,0\n', "line 2: unexpected end of data" + AGAIN),
        (b'img_name,target\n"a.jpg"x,0\n', "line 2: ',' expected after '\"'" + AGAIN),
        (b"img_name,target\n" + b"a" * 200_000 + b",0\n", "line 2: field larger than field limit (131072)" + AGAIN),
        (b"img_name,target\n\xe9.jpg,0\n", "line 2: not UTF-8 text\nnext: save it as UTF-8"),
        (b"img_name,target\n" + b"a.jpg,0\n" * 3000 + b"\xe9", "line 3002: not UTF-8 text\nnext: save it as UTF-8"),
        ("img_name,target\n".encode("utf-16"), "line 1: not UTF-8 text\nnext: save it as UTF-8"),
    ],
    ids=["NUL", "open quote", "after a quote", "endless field", "latin-1", "latin-1 far down", "UTF-16"],
)
def test_a_file_that_is_not_a_csv_is_refused(labels: Callable[..., Path], content: bytes, reason: str) -> None:
    path = labels(content)
    assert refusal(path) == f"{path} {reason}"


# --- lists and folders ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["", "testset1_seen/", "testset1_seen_nolabel/"])
def test_a_list_finds_its_images_beside_it(put: Put, folder: str) -> None:
    put("testset1_seen/.keep")
    image = put(f"{folder}a.jpg")
    found = table.read_list(put("testset1_seen_nolabel.txt", "img_name\na.jpg\n"))
    assert found.path(0) == image
    assert (found.target, found.group) == (None, None)


def test_a_list_with_bad_rows_is_refused(put: Put) -> None:
    path = put("list.csv", f"name,x\ngone.jpg,1\n../up.jpg,1\n{'z' * 300}.jpg,1\n")
    with pytest.raises(DataError) as caught:
        table.read_list(path)
    folder = path.parent.name
    assert str(caught.value) == (
        f"bad rows in {path}: 3\n"
        f"  list.csv line 2: gone.jpg is not in {folder}/\n"
        f"  list.csv line 3: ../up.jpg leaves the folder {folder}/\n"
        f"  list.csv line 4: {'z' * 300}.jpg is not in {folder}/\n{MEND}"
    )


def test_a_folder_is_refused_as_a_list(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        table.read_list(tmp_path)
    assert str(caught.value) == f"{tmp_path} cannot be read: Is a directory\nnext: name a file that can be read"


def test_a_list_without_an_image_column_is_refused(put: Put) -> None:
    path = put("list.csv", "photo,x\na.jpg,1\n")
    with pytest.raises(DataError) as caught:
        table.read_list(path)
    assert str(caught.value) == (
        f"{path} line 1: no column of images; the header is 'photo,x'\nnext: name a column img_name"
    )


def test_a_list_with_two_image_columns_names_no_config(put: Put) -> None:
    first, second = columns.IMAGE_COLUMNS[1:3]
    path = put("list.csv", f"{first},{second}\na.jpg,b.jpg\n")
    with pytest.raises(DataError) as caught:
        table.read_list(path)
    assert str(caught.value) == (
        f"{path} line 1: the columns {first} and {second} may both be meant\nnext: name a column img_name only"
    )


def test_a_folder_gives_all_its_images_sorted(put: Put, tmp_path: Path) -> None:
    for name in ("b.JPG", "sub/deep/a.png", "a b.webp", "é.tif", "notes.txt", "x.gif", "dir.jpg/y.bmp"):
        put(name)
    found = folders.list_folder(tmp_path)
    assert found.img_name.tolist() == ["a b.webp", "b.JPG", "dir.jpg/y.bmp", "sub/deep/a.png", "x.gif", "é.tif"]
    assert found.notes == ("1 file in 1 folder is not read: 1 .txt",)


def test_a_folder_without_images_is_refused(put: Put, tmp_path: Path) -> None:
    put("notes.txt")
    with pytest.raises(DataError) as caught:
        folders.list_folder(tmp_path)
    assert str(caught.value) == f"no image in {tmp_path}: {LOOKED_FOR}; 1 file in 1 folder is not read: 1 .txt"


def test_file_names_that_a_csv_cannot_hold_are_refused(tmp_path: Path) -> None:
    for name in (b"\xe9.jpg", b"a\nb.jpg", b"fine.jpg"):
        (tmp_path / name.decode("utf-8", "surrogateescape")).touch()
    with pytest.raises(DataError) as caught:
        folders.list_folder(tmp_path)
    assert str(caught.value) == (
        f"bad file names in {tmp_path}: 2\n"
        "  'a\\nb.jpg' has a control character: U+000A\n"
        "  '\\udce9.jpg' is not UTF-8\n"
        "next: rename these files"
    )


# --- class folders -------------------------------------------------------------------------------------------------


def read_class_folders(folder: Path, **labels: int) -> Table | None:
    found = folders.list_images(folder)
    return folders.read_class_folders("train", folder, found, DataConfig(labels=labels))


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (["0_real/r.jpg", "Fake/f.png", "Fake/more/g.png"], {}),
        (["REAL/r.jpg", "FAKE/f.png"], {}),
        (["gan/fake/a.jpg", "gan/real/b.jpg", "diffusion/fake/c.jpg"], {}),
        (["0/r.jpg", "1/f.jpg"], {"0": 0, "1": 1}),
        (["training_real/r.jpg", "training_fake/f.jpg"], {"training_real": 0, "training_fake": 1}),
        (["sd/nature/r.jpg", "sd/ai/f.jpg"], {"nature": 0, "ai": 1}),
        (["original/r.jpg", "manipulated/Deepfakes/f.jpg"], {"original": 0, "manipulated": 1}),
        (["real/r.jpg", "Deepfakes/f.jpg", "FaceSwap/g.jpg"], {"real": 0, "deepfakes": 1, "faceswap": 1}),
    ],
)
def test_class_folders_give_the_labels(put: Put, tmp_path: Path, files: list[str], labels: dict[str, int]) -> None:
    for name in files:
        put(name)
    found = read_class_folders(tmp_path, **labels)
    assert found is not None
    assert found.target is not None
    read = dict(zip(found.img_name.tolist(), found.target.tolist(), strict=True))
    assert read == {name: int(Path(name).stem not in "rb" or "fake" in name.lower()) for name in files}


def test_a_folder_without_class_folders_has_none(put: Put, tmp_path: Path) -> None:
    put("people/ann/a.jpg")
    assert read_class_folders(tmp_path) is None


def test_images_outside_of_the_class_folders_are_refused(put: Put, tmp_path: Path) -> None:
    for name in ("real/r.jpg", "fake/f.jpg", "Deepfakes/a.jpg", "Deepfakes/b.jpg", "two words/c.jpg", "loose.jpg"):
        put(name)
    with pytest.raises(DataError) as caught:
        read_class_folders(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has class folders, and 4 images outside of them\n"
        "  ./: 1 image\n"
        "  Deepfakes/: 2 images\n"
        "  two words/: 1 image\n"
        "next: move them to another folder, or set in config.toml, with 0 (real) or 1 (fake) for each '?': "
        'data.labels = { fake = 1, real = 0, Deepfakes = ?, "two words" = ? }'
    )


def test_unknown_folders_beside_nested_class_folders_are_named(put: Put, tmp_path: Path) -> None:
    for name in ("gan/real/r.jpg", "gan/fake/f.jpg", "gan/other/x.jpg", "gan/loose.jpg", "sd/y.jpg"):
        put(name)
    with pytest.raises(DataError) as caught:
        read_class_folders(tmp_path)
    assert caught.value.problems == ("gan/: 1 image", "gan/other/: 1 image", "sd/: 1 image")
    assert caught.value.hint.endswith("data.labels = { fake = 1, real = 0, other = ?, sd = ? }")


def test_an_empty_class_folder_is_refused(put: Put, tmp_path: Path) -> None:
    put("fake/f.jpg")
    (tmp_path / "real").mkdir()
    with pytest.raises(DataError) as caught:
        read_class_folders(tmp_path)
    assert str(caught.value) == f"no image in {tmp_path / 'real'}: {LOOKED_FOR}"
