from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ffdi.data import doctor
from ffdi.data.table import Table
from ffdi.errors import DataError

Gallery = Callable[..., Table]


def conclusion(table: Table) -> str:
    return doctor.conclude(table, doctor.examine(table, 2))


def test_every_image_is_hashed_in_the_tables_order(gallery: Gallery) -> None:
    table = gallery(5)
    findings = list(doctor.examine(table, 2))
    assert [finding.img_name for finding in findings] == table.img_name.tolist()
    hashes = [hashlib.sha256(table.path(index).read_bytes()).hexdigest() for index in range(5)]
    assert [finding.sha256 for finding in findings] == hashes
    assert [finding.fault for finding in findings] == [""] * 5


def test_more_images_than_one_helping_are_all_examined(gallery: Gallery) -> None:
    table = gallery(2)
    many = table.take(np.arange(1500) % 2)
    assert [finding.img_name for finding in doctor.examine(many, 2)] == many.img_name.tolist()


def test_every_image_that_cannot_be_used_is_listed(gallery: Gallery) -> None:
    table = gallery(6)
    table.path(1).write_bytes(b"")
    table.path(2).unlink()
    table.path(3).write_bytes(b"GIF89a" + bytes(40))
    table.path(4).write_bytes(table.path(4).read_bytes()[:-20])
    size = table.path(4).stat().st_size
    with pytest.raises(DataError) as caught:
        conclusion(table)
    assert str(caught.value) == (
        "4 of 6 train images cannot be used\n"
        f"  {table.path(1)} is empty\n"
        f"  {table.path(2)} cannot be read: No such file or directory\n"
        f"  {table.path(3)} is no image that ffdi reads (JPEG, PNG, BMP, WEBP, TIFF)\n"
        f"  {table.path(4)} is truncated or damaged: {size} bytes cannot be decoded\n"
        f"next: replace these files, or take their rows out of {table.source}; nothing was written"
    )


def test_the_digest_does_not_depend_on_the_order_of_rows_or_the_place(gallery: Gallery) -> None:
    table = gallery(4)
    moved = replace(table, folder=table.folder.rename(table.folder.parent / "elsewhere"), split="val")
    assert conclusion(moved.take(np.array([2, 0, 3, 1]))) == conclusion(moved)
    assert len(conclusion(moved)) == 64


def test_the_digest_changes_with_names_labels_groups_and_bytes(gallery: Gallery) -> None:
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
    digests = [conclusion(one) for one in changed]
    name = table.path(0).with_name("other.png")
    table.path(0).rename(name)
    renamed = replace(table, img_name=np.array([name.name, *table.img_name[1:].tolist()]))
    digests.append(conclusion(renamed))
    name.write_bytes(name.read_bytes() + b" ")
    digests.append(conclusion(renamed))
    assert len(set(digests)) == len(changed) + 2
