"""Which rows make which batches."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ffdi.data.loading import sampler
from ffdi.data.loading.sampler import BatchSampler, RankShard, SampleKey

TARGET = (np.random.default_rng(0).permutation(60) < 40).astype(np.int64)
"""20 real images, 40 fakes."""
FAKE = TARGET == 1


def epochs(count: int, batch_size: int = 8, **chosen: object) -> list[list[list[SampleKey]]]:
    """The batches of so many epochs."""
    made = BatchSampler(TARGET, batch_size, 5, 1, **chosen)  # type: ignore[arg-type]
    found = []
    for epoch in range(count):
        made.epoch = epoch
        found.append(list(made))
        assert len(found[-1]) == len(made)
    return found


def flat(batches: list[list[SampleKey]]) -> list[SampleKey]:
    return [draw for batch in batches for draw in batch]


def test_every_row_has_its_turn_in_each_epoch() -> None:
    first, second = (flat(batches) for batches in epochs(2))
    assert sorted(draw.row for draw in first) == sorted(draw.row for draw in second) == list(range(60))
    assert [draw.row for draw in first] != [draw.row for draw in second]
    assert {draw.epoch for draw in second} == {1}


def test_balanced_epochs_have_as_many_of_each_and_show_every_fake_in_turn() -> None:
    seen: Counter[int] = Counter()
    for batches in epochs(5, sampling="balanced"):
        rows = [draw.row for draw in flat(batches)]
        assert sum(FAKE[rows]) == 20
        assert len(set(rows)) == len(rows) == 40
        seen.update(rows)
    assert {seen[row] for row in np.flatnonzero(FAKE).tolist()} <= {2, 3}
    assert all(seen[row] == 5 for row in np.flatnonzero(~FAKE).tolist())


@pytest.mark.parametrize(("sampling", "share"), [("all", 0.25), ("balanced", 0.25), ("balanced", 0.5), ("all", 0.01)])
def test_every_batch_has_a_fraction_of_pseudo_fakes_from_real_images(sampling: str, share: float) -> None:
    for batches in epochs(3, sampling=sampling, fake_fraction=share):
        for batch in batches[:-1]:
            pseudo_fakes = [draw.row for draw in batch if draw.pseudo_fake]
            given = [draw.row for draw in batch if not draw.pseudo_fake]
            assert len(pseudo_fakes) == max(1, round(8 * share))
            assert len(pseudo_fakes) + len(given) == 8
            assert not FAKE[pseudo_fakes].any()
            assert len(set(pseudo_fakes)) == len(pseudo_fakes)
            enough = sum(~FAKE[given]) >= len(pseudo_fakes)
            assert not enough or set(pseudo_fakes) <= set(given)


@pytest.mark.parametrize("share", [0.125, 0.25, 0.5])
def test_pseudo_fakes_count_as_fakes_in_balanced_sampling(share: float) -> None:
    made = BatchSampler(TARGET, 8, 5, 1, "balanced", share)
    drawn = [draw for batches in epochs(1, sampling="balanced", fake_fraction=share) for draw in flat(batches)]
    fakes = np.mean([draw.pseudo_fake or FAKE[draw.row] for draw in drawn])
    assert fakes == pytest.approx(0.5, abs=0.04)
    assert made.fake_fraction == pytest.approx(0.5, abs=0.02)


def test_the_share_of_fakes_is_known() -> None:
    assert BatchSampler(TARGET, 8, 0, 0).fake_fraction == pytest.approx(40 / 60)
    assert BatchSampler(TARGET, 8, 0, 0, fake_fraction=0.25).fake_fraction == pytest.approx(0.25 + 0.75 * 40 / 60)


def test_pseudo_fakes_come_from_other_images_if_the_batch_has_no_real_one() -> None:
    made = BatchSampler(np.array([1] * 30 + [0] * 2), 4, 0, 0, fake_fraction=0.5)
    pseudo_fakes = [draw.row for batch in made for draw in batch if draw.pseudo_fake]
    assert set(pseudo_fakes) == {30, 31}


@pytest.mark.parametrize("sampling", sampler.SAMPLINGS)
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_an_epoch_goes_on_in_its_middle(sampling: str, share: float) -> None:
    made = BatchSampler(TARGET, 8, 5, 1, sampling, share)
    made.epoch = 3
    whole = list(made)
    made.start = 2
    assert list(made) == whole[2:]


PARTNER = np.where(FAKE & (np.arange(60) % 3 > 0), np.flatnonzero(~FAKE)[np.arange(60) % 20], -1)
"""The real images of two thirds of the fakes; a real image has several."""


@pytest.mark.parametrize("batch_size", [8, 9])
def test_pairs_are_in_one_batch_with_the_same_view(batch_size: int) -> None:
    first, second = epochs(2, batch_size, sampling="paired", partner=PARTNER)
    for batches in (first, second):
        assert [len(batch) for batch in batches] == [8] * 10
        fakes, reals = (flat(batches)[start::2] for start in (0, 1))
        assert sorted(key.row for key in fakes) == np.flatnonzero(FAKE).tolist()
        assert {key.view_of for key in fakes} == {-1}
        for fake, real in zip(fakes, reals, strict=True):
            assert not FAKE[real.row]
            assert real.view_row == fake.view_row == fake.row
            assert PARTNER[fake.row] in (real.row, -1)
    assert [key.row for key in flat(first)] != [key.row for key in flat(second)]
    strangers = {key.row for key in flat(first)[1::2] if PARTNER[key.view_of] < 0}
    assert len(strangers) > 5


def test_pairs_of_the_same_seed_are_the_same_and_resume_in_the_middle() -> None:
    made = BatchSampler(TARGET, 8, 5, 1, "paired", partner=PARTNER)
    whole = list(made)
    made.start = 3
    assert list(made) == whole[3:]
    assert made.fake_fraction == 0.5


def test_pairs_can_have_pseudo_fakes_too() -> None:
    (batches,) = epochs(1, 10, sampling="paired", partner=PARTNER, fake_fraction=0.2)
    for batch in batches:
        pseudo = [key for key in batch if key.pseudo_fake]
        assert len(pseudo) == 2
        assert {key.row for key in pseudo} <= {key.row for key in batch if not key.pseudo_fake}


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_clean_view_follows_each_sample_of_a_rank(ranks: int) -> None:
    chosen = {"sampling": "balanced", "fake_fraction": 0.25}
    plain, double = (
        epochs(1, shard=RankShard(0, ranks), views=views, **chosen)[0] for views in (1, 2)
    )  # fmt: skip
    assert [key for batch in double for key in batch if not key.clean] == flat(plain)
    for batch in double:
        assert [key._replace(clean=True) for key in batch[::2]] == batch[1::2]


def test_images_without_labels_have_their_part_of_each_batch_and_are_used_alike() -> None:
    target = np.array([0, 1] * 20)
    sampler = BatchSampler(target, 8, 3, 0, unlabelled=7, unlabelled_fraction=0.25)
    used: list[int] = []
    for epoch in range(7):
        sampler.epoch = epoch
        batches = list(sampler)
        assert len(batches) == len(sampler) == 7
        for batch in batches:
            rows = np.array([key.row for key in batch])
            extra = rows[rows >= 40]
            assert len(np.unique(rows)) == len(rows)
            assert len(extra) == round(2 * (len(rows) - len(extra)) / 6)
            used += extra.tolist()
        assert sorted(key.row for batch in batches for key in batch if key.row < 40) == list(range(40))
    counts = np.bincount(np.array(used) - 40, minlength=7)
    assert counts.min() > 0
    assert counts.max() - counts.min() <= 7  # the short last batch of each epoch skips some
    again = BatchSampler(target, 8, 3, 0, unlabelled=7, unlabelled_fraction=0.25)
    again.epoch, again.start = 6, 3
    assert list(again) == batches[3:]


def test_few_images_without_labels_are_not_repeated_in_a_batch() -> None:
    sampler = BatchSampler(np.array([0, 1] * 20), 8, 3, 0, unlabelled=1, unlabelled_fraction=0.5)
    assert all(sum(key.row == 40 for key in batch) == 1 for batch in sampler)
