"""Where trials come from, and what they may choose from."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from ffdi.config.variants import Keys
from ffdi.core.errors import ConfigError
from ffdi.search import samplers
from ffdi.search.samplers import Sampler
from ffdi.search.space import Range, Space

SPACE = Space.of(
    ["train.lr=1e-5..1e-2", "augment.recipe=light,strong", "train.batch_size=8..64", "train.ema_decay=0..0.5"]
)


def asked(sampler: Sampler) -> list[Keys]:
    """All trials, each told the closer to 3e-4 the better."""
    trials = []
    while (keys := sampler.ask()) is not None:
        trials.append(keys)
        sampler.tell(keys, 1 - abs(np.log10(keys.get("train.lr", 1) / 3e-4)))
    return trials


def test_words_become_lists_and_ranges() -> None:
    assert SPACE.keys == {
        "train.lr": Range(1e-5, 1e-2),
        "augment.recipe": ["light", "strong"],
        "train.batch_size": Range(8, 64),
        "train.ema_decay": Range(0, 0.5),
    }
    assert [Range(*ends).logarithmic for ends in ((1e-5, 1e-2), (8, 64), (0, 0.5), (1, 10))] == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("word", ["1e-2..1e-5", "0..inf", "nan..1", "1..1", "-1e308..1e308", f"1..1{'0' * 400}"])
def test_what_is_no_range_is_refused(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Space.of([f"train.lr={word}"])
    assert str(caught.value) == (
        f"--set train.lr={word}: no range\nnext: pass --set train.lr=1e-5..1e-2, the lower end first"
    )


@pytest.mark.parametrize("word", ["../weights.pth", "a..b", "1..", "..", "1..2..3"])
def test_dots_alone_make_no_range(word: str) -> None:
    assert Space.of([f"model.weights={word}"]).keys == {"model.weights": [word]}


def test_all_of_a_grid_and_the_ends_of_what_is_not_known_can_be_checked_beforehand() -> None:
    grid = samplers.build_sampler("grid", Space.of(["a.b=1,2", "c.d=3,4"]), 3, 0)
    assert list(grid.foreseen) == asked(grid)
    drawn = samplers.build_sampler("random", SPACE, 5, 0)
    assert list(drawn.foreseen) == asked(drawn)
    assert samplers.build_sampler("tpe", Space.of(["a.b=1..20", "c.d=x,y"]), 3, 0).foreseen == [
        {"a.b": 1},
        {"a.b": 20},
        {"c.d": "x"},
        {"c.d": "y"},
    ]


def test_nothing_to_search_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Space.of([])
    assert str(caught.value) == ("nothing to search\nnext: pass --set train.lr=1e-4,3e-4, or --set train.lr=1e-5..1e-2")


def test_a_grid_gives_every_combination_in_an_order_of_its_seed() -> None:
    space = Space.of(["a.b=1,2,3", "c.d=x,y"])
    trials = asked(samplers.build_sampler("grid", space, None, 0))
    assert sorted(map(str, trials)) == sorted(map(str, space.grid()))
    assert trials == asked(samplers.build_sampler("grid", space, None, 0))
    assert trials != asked(samplers.build_sampler("grid", space, None, 1))
    assert len(asked(samplers.build_sampler("grid", space, 4, 0))) == 4


def test_a_grid_of_ranges_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        samplers.build_sampler("grid", SPACE, None, 0)
    assert str(caught.value) == (
        "train.batch_size, train.ema_decay, train.lr is a range: a grid has no end of values in it\n"
        "next: pass --sampler random --trials 20, or name the values: --set train.lr=1e-4,3e-4"
    )


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_draws_lie_inside_come_again_and_have_their_type(name: str) -> None:
    trials = asked(samplers.build_sampler(name, SPACE, 12, 3))
    assert trials == asked(samplers.build_sampler(name, SPACE, 12, 3))
    assert trials != asked(samplers.build_sampler(name, SPACE, 12, 4))
    assert len(trials) == 12
    for keys in trials:
        assert 1e-5 <= keys["train.lr"] <= 1e-2
        assert keys["augment.recipe"] in ("light", "strong")
        assert type(keys["train.batch_size"]) is int
        assert 8 <= keys["train.batch_size"] <= 64
        assert float(f"{keys['train.lr']:.3g}") == keys["train.lr"]


def test_a_range_of_factors_is_drawn_by_factors() -> None:
    rng = np.random.default_rng(0)
    drawn = [Range(1e-5, 1e-1).draw(rng) for _ in range(400)]
    assert 0.4 < np.mean(np.array(drawn) < 1e-3) < 0.6
    whole = [Range(1, 100).draw(rng) for _ in range(400)]
    assert 0.4 < np.mean(np.array(whole) <= 10) < 0.6
    assert {type(one) for one in whole} == {int}
    assert min(whole) == 1


def test_every_whole_number_has_its_share() -> None:
    rng = np.random.default_rng(0)
    drawn = [Range(2, 4).draw(rng) for _ in range(300)]
    assert min(drawn.count(number) for number in (2, 3, 4)) > 70


def test_what_is_shown_with_three_digits_stays_inside() -> None:
    rng = np.random.default_rng(0)
    drawn = [Range(0.12345, 0.12351).draw(rng) for _ in range(50)]
    assert min(drawn) >= 0.12345
    assert max(drawn) <= 0.12351


def test_tpe_hears_of_a_trial_that_failed() -> None:
    sampler = samplers.build_sampler("tpe", Space.of(["train.lr=1e-6..1"]), 30, 0)
    far = []
    while (keys := sampler.ask()) is not None:
        far.append(keys["train.lr"])
        sampler.tell(keys, -np.inf if keys["train.lr"] > 1e-3 else 0.8)
    assert np.mean(np.array(far[15:]) < 1e-3) > np.mean(np.array(far[:10]) < 1e-3)


def test_tpe_comes_closer_to_what_scores_well() -> None:
    space = Space.of(["train.lr=1e-6..1"])
    trials = asked(samplers.build_sampler("tpe", space, 40, 0))
    far = [abs(np.log10(keys["train.lr"] / 3e-4)) for keys in trials]
    assert np.median(far[20:]) < 0.6 * np.median(far[:10])


def test_tpe_without_optuna_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError) as caught:
        samplers.build_sampler("tpe", SPACE, None, 0)
    assert str(caught.value) == "--sampler tpe needs Optuna\nnext: pip install -e '.[sweep]'"


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        samplers.build_sampler("gird", SPACE, None, 0)
    assert str(caught.value) == "--sampler gird: did you mean 'grid'?\nnext: pass --sampler grid"
