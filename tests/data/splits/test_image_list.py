"""The image list of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ffdi.core import manifests
from ffdi.data.inspection.scan_store import ScanStore
from ffdi.data.labels.table import Table
from ffdi.data.splits import image_list
from tests.data.conftest import scan_table

Gallery = Callable[..., Table]


def listed(table: Table, findings: ScanStore) -> str:
    return image_list.format_image_list(scan_table(table, findings))


def digest(table: Table, findings: ScanStore) -> str:
    return manifests.hash_text(listed(table, findings))


def test_the_digest_does_not_depend_on_the_order_of_rows_or_the_place(gallery: Gallery, findings: ScanStore) -> None:
    table = gallery(4)
    moved = replace(table, folder=table.folder.rename(table.folder.parent / "elsewhere"), split="val")
    turned = moved.take(np.array([2, 0, 3, 1]))
    assert digest(turned, findings) == digest(moved, findings)


def test_the_digest_changes_with_names_labels_groups_and_bytes(gallery: Gallery, findings: ScanStore) -> None:
    table = gallery(4)
    assert table.target is not None
    changed = [
        table,
        table.take(np.arange(3)),
        replace(table, target=1 - table.target),
        replace(table, target=None),
        replace(table, group=np.array(list("wxyz"))),
        replace(table, group=np.array(list("wxyy"))),
    ]
    digests = [digest(one, findings) for one in changed]
    name = table.path(0).with_name("other.png")
    table.path(0).rename(name)
    renamed = replace(table, img_name=np.array([name.name, *table.img_name[1:].tolist()]))
    digests.append(digest(renamed, findings))
    name.write_bytes(name.read_bytes() + b" ")
    digests.append(digest(renamed, findings))
    assert len(set(digests)) == len(changed) + 2


def test_landmarks_are_in_the_list_only_if_they_are_used(gallery: Gallery, findings: ScanStore) -> None:
    table = gallery(4)
    points = np.random.default_rng(0).random((4, 3, 2), np.float32)
    scans = [scan_table(replace(table, landmarks=one), findings) for one in (None, points, points / 2)]
    assert len({image_list.format_image_list(scan) for scan in scans}) == 1
    assert len({image_list.format_image_list(scan, landmarks=True) for scan in scans}) == 3


def test_an_image_that_cannot_be_used_is_not_in_the_digest(gallery: Gallery, findings: ScanStore) -> None:
    table = gallery(4)
    without = digest(table.take(np.array([0, 1, 3])), findings)
    table.path(2).write_bytes(b"")
    assert digest(table, findings) == without


def test_every_difference_is_listed(gallery: Gallery, findings: ScanStore) -> None:
    table = replace(gallery(4), group=np.array(list("wxyz")))
    before = listed(table, findings)
    assert image_list.list_differences(before, before) == []
    assert image_list.list_differences(before, listed(table.take(np.arange(1, 4)), findings)) == ["0.png is gone"]
    assert image_list.list_differences(listed(table.take(np.arange(3)), findings), before) == ["3.png is new"]
    table.path(1).write_bytes(table.path(1).read_bytes() + b" ")
    changed = replace(table, target=np.array([0, 0, 0, 0]), group=np.array(list("wxxz")))
    assert image_list.list_differences(before, listed(changed, findings)) == [
        "1.png label 1 -> 0, other bytes",
        "2.png group y -> x",
        "3.png label 1 -> 0",
    ]
