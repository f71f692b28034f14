from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ffdi.core.errors import ConfigError, DataError
from ffdi.data.inspection import doctor
from ffdi.data.inspection.doctor import Diagnosis
from ffdi.data.inspection.duplicate_groups import DuplicateGroups
from ffdi.data.inspection.scan import ScanResult
from ffdi.data.labels.table import Table

Change = Callable[[ScanResult], None]
HINT = "next: mend the data, or accept known faults by adding --accept {}; docs/data.md describes the consequences"


def make_scan(split: str, names: str, target: str | None, group: list[str] | None = None) -> ScanResult:
    """A make_scan of one image for each letter, all alike: '.' has no label, else 0 or 1."""
    labels = None if target is None else np.array([int(one) for one in target])
    folder = Path("/data") / split
    table = Table(split, folder, np.array(list(names)), labels, None if group is None else np.array(group), folder)
    made = ScanResult(table)
    made.size[:], made.width[:], made.height[:] = 1000, 64, 48
    made.format[:], made.mode[:] = "JPEG", "RGB"
    return made


def diagnosed(
    scans: list[ScanResult],
    cluster: list[int] | None = None,
    near: set[int] | None = None,
    scene: list[int] | None = None,
) -> Diagnosis:
    total = sum(len(one.table) for one in scans)
    copies = np.arange(total) if cluster is None else np.array(cluster)
    duplicates = DuplicateGroups(copies, frozenset(near or ()), copies if scene is None else np.array(scene))
    return doctor.diagnose(Path("/data"), {one.table.split: one for one in scans}, duplicates)


def refusal(diagnosis: Diagnosis, *accepted: str) -> str:
    with pytest.raises(DataError) as caught:
        diagnosis.refuse_faults(accepted)
    return str(caught.value)


def test_a_sound_data_set_passes() -> None:
    diagnosis = diagnosed([make_scan("train", "abcd", "0101"), make_scan("test", "ef", None)])
    diagnosis.refuse_faults([])
    assert diagnosis.faults == []
    assert diagnosis.select_usable("train").group is None


def test_unusable_images_are_refused_or_left_out() -> None:
    train, test = make_scan("train", "abcd", "0101", list("wxyz")), make_scan("test", "ef", None)
    train.faults[2], test.faults[0] = "is empty", "is not an image"
    diagnosis = diagnosed([train, test])
    assert refusal(diagnosis) == (
        "the data would spoil a run: unusable\n"
        "  unusable: 1 of 4 train images and 1 of 2 test images cannot be used\n"
        "    /data/train/c is empty\n"
        "    /data/test/e is not an image\n" + HINT.format("unusable")
    )
    diagnosis.refuse_faults(["unusable"])
    left = diagnosis.select_usable("train")
    assert left.img_name.tolist() == ["a", "b", "d"]
    assert left.target is not None
    assert left.group is not None
    assert (left.target.tolist(), left.group.tolist()) == ([0, 1, 1], ["w", "x", "z"])
    assert diagnosis.select_usable("test").img_name.tolist() == ["f"]


def test_a_picture_with_both_labels_is_refused() -> None:
    diagnosis = diagnosed([make_scan("train", "abcd", "0101")], [0, 0, 2, 3], {0})
    assert refusal(diagnosis) == (
        "the data would spoil a run: conflicts\n"
        "  conflicts: 1 picture with both labels\n"
        "    train/a (real) = train/b (fake), nearly\n" + HINT.format("conflicts")
    )


def test_a_picture_in_two_splits_is_refused_unless_accepted() -> None:
    scans = [make_scan("train", "abcd", "0101"), make_scan("val", "ef", "10"), make_scan("test", "gh", None)]
    diagnosis = diagnosed(scans, [0, 1, 2, 3, 1, 0, 3, 7])
    assert refusal(diagnosis) == (
        "the data would spoil a run: leaks\n"
        "  leaks: 3 pictures in more than one split\n"
        "    train/a (real) = val/f (real)\n"
        "    train/b (fake) = val/e (fake)\n"
        "    train/d (fake) = test/g\n" + HINT.format("leaks")
    )
    diagnosis.refuse_faults(["leaks"])


def test_several_faults_are_listed_at_once_and_only_those_not_accepted() -> None:
    train = make_scan("train", "abcdef", "010101")
    train.faults[5] = "is empty"
    diagnosis = diagnosed([train, make_scan("test", "g", None)], [0, 0, 2, 3, 4, 5, 2])
    assert [fault.kind for fault in diagnosis.faults] == ["unusable", "conflicts", "leaks"]
    message = refusal(diagnosis, "leaks")
    assert message.startswith("the data would spoil a run: unusable, conflicts\n")
    assert message.endswith(HINT.format("unusable,conflicts,leaks"))
    assert "more than one split" not in message


def test_copies_with_one_label_in_one_split_are_no_fault_but_a_group() -> None:
    diagnosis = diagnosed([make_scan("train", "abcdef", "010101")], [0, 1, 0, 3, 4, 1])
    diagnosis.refuse_faults([])
    group = diagnosis.select_usable("train").group
    assert group is not None
    assert group.tolist() == ["a", "b", "a", "d", "e", "b"]
    assert diagnosis.select_usable("train").target is not None


def test_a_scene_in_two_splits_with_both_labels_is_a_group_and_not_a_fault() -> None:
    scans = [make_scan("train", "abcd", "0101"), make_scan("test", "ef", None)]
    diagnosis = diagnosed(scans, [0, 1, 2, 3, 4, 5], scene=[0, 0, 2, 3, 0, 5])
    diagnosis.refuse_faults([])
    group = diagnosis.select_usable("train").group
    assert group is not None
    assert group.tolist() == ["a", "a", "c", "d"]
    assert diagnosis.to_json()["scenes"] == {"scenes": 1, "images": 3, "largest": 3, "suspicious": False}


def test_a_scene_of_very_many_images_is_suspicious() -> None:
    names = "".join(chr(0x4E00 + row) for row in range(doctor.LARGE + 1))
    scenes = diagnosed([make_scan("train", names, "01" * 50 + "0")], scene=[0] * len(names)).count_scenes()
    assert (scenes["largest"], scenes["suspicious"]) == (len(names), True)


def test_given_groups_are_not_joined_by_a_suspicious_scene() -> None:
    count = doctor.LARGE + 1
    names = "".join(chr(0x4E00 + row) for row in range(count + 4))
    train = make_scan("train", names, "01" * (len(names) // 2) + "0", [f"g{row // 2}" for row in range(len(names))])
    chain = [0] * count + [count, count + 1, count, count + 3]
    group = diagnosed([train], scene=chain).select_usable("train").group
    assert group is not None
    assert group.tolist() == [f"g{row // 2}" for row in range(count)] + ["g50", "g50", "g50", "g52"]


def test_groups_that_share_a_picture_are_joined() -> None:
    diagnosis = diagnosed([make_scan("train", "abcdef", "010101", list("uuvvww"))], [0, 1, 2, 1, 4, 5])
    group = diagnosis.select_usable("train").group
    assert group is not None
    assert group.tolist() == ["u", "u", "u", "u", "w", "w"]


def test_a_fake_and_the_real_image_that_it_was_made_from_are_a_group() -> None:
    train = make_scan("train", "abcdef", "010101")
    train = replace(train, table=replace(train.table, pair=np.array(["", "a", "", "a", "", ""])))
    group = diagnosed([train], [0, 1, 2, 3, 4, 5], scene=[0, 1, 2, 3, 3, 5]).select_usable("train").group
    assert group is not None
    assert group.tolist() == ["a", "a", "c", "a", "a", "f"]


@pytest.mark.parametrize(
    ("pair", "near", "kinds"),
    [
        (["", "a", "", ""], {0}, []),
        (["", "a", "", ""], set(), ["conflicts"]),
        (["", "c", "", ""], {0}, ["conflicts"]),
        (None, {0}, ["conflicts"]),
    ],
)
def test_a_fake_may_be_nearly_the_image_that_it_was_made_from(
    pair: list[str] | None, near: set[int], kinds: list[str]
) -> None:
    train = make_scan("train", "abcd", "0101")
    train = replace(train, table=replace(train.table, pair=None if pair is None else np.array(pair)))
    assert [fault.kind for fault in diagnosed([train], [0, 0, 2, 3], near).faults] == kinds


def test_many_lines_are_cut_and_counted() -> None:
    names = "".join(chr(0x4E00 + row) for row in range(120))
    train, val = make_scan("train", names[:60], "01" * 30), make_scan("val", names[60:], "01" * 30)
    message = refusal(diagnosed([train, val], [*range(60), *range(60)]))
    assert message.splitlines()[1] == "  leaks: 60 pictures in more than one split"
    assert message.splitlines()[-2] == "    ... and 40 more"
    assert len(message.splitlines()) == 24


# --- facts about the files -----------------------------------------------------------------------------------------


def sized(result: ScanResult) -> None:
    result.size[:] = 1000 + 500 * np.asarray(result.table.target) + np.arange(len(result.table))


def formatted(result: ScanResult) -> None:
    result.format[:] = np.where(np.asarray(result.table.target) == 1, "PNG", "JPEG")


def shaped(result: ScanResult) -> None:
    result.height[:] = 64 - np.asarray(result.table.target)


def compressed(result: ScanResult) -> None:
    result.quantization[:] = np.where(np.asarray(result.table.target) == 1, 379, 1000)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (sized, ["bytes"]),
        (formatted, ["format"]),
        (shaped, ["height", "width / height"]),
        (compressed, ["JPEG quantization"]),
    ],
)
def test_files_that_predict_their_labels_are_refused(change: Change, facts: list[str]) -> None:
    train = make_scan("train", "".join(chr(0x4E00 + row) for row in range(60)), "01" * 30)
    change(train)
    diagnosis = diagnosed([train])
    lines = [f"    {fact} of the train files: AUC 1.000 (0.897 to 1.000)" for fact in facts]
    assert refusal(diagnosis) == "\n".join(
        [
            "the data would spoil a run: shortcuts",
            "  shortcuts: the files' properties predict the labels without their pixels",
            *lines,
            HINT.format("shortcuts"),
        ]
    )


def test_files_that_tell_their_labels_are_refused_with_few_groups_too() -> None:
    names = "".join(chr(0x4E00 + row) for row in range(60))
    train = make_scan("train", names, "01" * 30, [f"g{row % 4}" for row in range(60)])
    formatted(train)
    assert "    format of the train files: AUC 1.000 (too few groups for an interval)\n" in refusal(diagnosed([train]))


def test_random_and_constant_properties_pass() -> None:
    train = make_scan("train", "".join(chr(0x4E00 + row) for row in range(60)), "01" * 30)
    train.size[:] = np.random.default_rng(0).integers(1000, 9000, 60)
    facts = doctor.measure_shortcuts(train)
    assert list(facts) == ["bytes"]
    assert 0.5 <= facts["bytes"]["auc"] < 0.65
    assert not facts["bytes"]["shortcut"]


def test_both_directions_of_a_property_count_alike() -> None:
    train = make_scan("train", "".join(chr(0x4E00 + row) for row in range(60)), "01" * 30)
    sized(train)
    turned = replace(train.table, target=1 - np.asarray(train.table.target))
    other = ScanResult(turned)
    other.size[:] = train.size
    assert doctor.measure_shortcuts(other)["bytes"] == doctor.measure_shortcuts(train)["bytes"]


# --- words ---------------------------------------------------------------------------------------------------------


def test_the_report_has_everything() -> None:
    train = make_scan("train", "abcd", "0101", list("wxyz"))
    train.faults[3] = "is empty"
    train.width[0] = 65
    content = diagnosed([train, make_scan("test", "ef", None)], [0, 1, 2, 3, 0, 1], {1}).to_json()
    assert content["splits"]["train"] == {
        "images": 4,
        "real": 2,
        "fake": 2,
        "groups": 4,
        "unusable": 1,
        "formats": {"JPEG": 3},
        "modes": {"RGB": 3},
        "sizes": {"64 x 48": 2, "65 x 48": 1},
    }
    assert content["splits"]["test"]["real"] is None
    assert content["unusable"] == ["/data/train/d is empty"]
    assert content["duplicates"] == {
        "exact": 1,
        "near": 1,
        "images": 4,
        "pictures": [
            {"kind": "exact", "images": ["train/a (real)", "test/e"]},
            {"kind": "near", "images": ["train/b (fake)", "test/f"]},
        ],
    }
    assert [fault["kind"] for fault in content["faults"]] == ["unusable", "leaks"]


def test_many_sizes_are_counted_together() -> None:
    train = make_scan("train", "".join(chr(0x4E00 + row) for row in range(30)), "01" * 15)
    train.width[:20] = np.arange(20)
    sizes = doctor.describe_split(train)["sizes"]
    assert sizes["64 x 48"] == 10
    assert sizes["others"] == 13
    assert sum(sizes.values()) == 30


def test_accept_is_parsed() -> None:
    assert doctor.parse_accept(None) == []
    assert doctor.parse_accept("leaks, conflicts") == ["leaks", "conflicts"]
    with pytest.raises(ConfigError) as caught:
        doctor.parse_accept("leaks,typo")
    assert str(caught.value) == (
        "--accept leaks,typo: 'typo' is not a kind of fault; known: unusable, conflicts, leaks, shortcuts"
    )
