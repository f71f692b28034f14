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

SPACE = Space.parse(
    ["train.lr=1e-5..1e-2", "augment.recipe=light,strong", "train.batch_size=8..64", "train.ema_decay=0..0.5"]
)


def asked(sampler: Sampler) -> list[Keys]:
    """Runs all trials; a learning rate near 3e-4 gets a better score."""
    trials = []
    while (keys := sampler.ask()) is not None:
        trials.append(keys)
        sampler.tell(keys, 1 - abs(np.log10(keys.get("train.lr", 1) / 3e-4)))
    return trials


def test_words_are_parsed_as_lists_and_ranges() -> None:
    assert SPACE.keys == {
        "train.lr": Range(1e-5, 1e-2),
        "augment.recipe": ["light", "strong"],
        "train.batch_size": Range(8, 64),
        "train.ema_decay": Range(0, 0.5),
    }
    assert [Range(*ends).is_logarithmic for ends in ((1e-5, 1e-2), (8, 64), (0, 0.5), (1, 10))] == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("word", ["1e-2..1e-5", "0..inf", "nan..1", "1..1", "-1e308..1e308", f"1..1{'0' * 400}"])
def test_malformed_ranges_are_refused(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Space.parse([f"train.lr={word}"])
    assert str(caught.value) == (
        f"--set train.lr={word}: not a range\nnext: pass --set train.lr=1e-5..1e-2, the lower end first"
    )


@pytest.mark.parametrize("word", ["../weights.pth", "a..b", "1..", "..", "1..2..3"])
def test_a_path_with_dots_is_not_a_range(word: str) -> None:
    assert Space.parse([f"model.weights={word}"]).keys == {"model.weights": [word]}


def test_a_grid_and_the_ends_of_ranges_are_known_before_training() -> None:
    grid = samplers.build_sampler("grid", Space.parse(["a.b=1,2", "c.d=3,4"]), 3, 0)
    assert list(grid.foreseen) == asked(grid)
    drawn = samplers.build_sampler("random", SPACE, 5, 0)
    assert list(drawn.foreseen) == asked(drawn)
    assert samplers.build_sampler("tpe", Space.parse(["a.b=1..20", "c.d=x,y"]), 3, 0).foreseen == [
        {"a.b": 1},
        {"a.b": 20},
        {"c.d": "x"},
        {"c.d": "y"},
    ]


def test_an_empty_space_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Space.parse([])
    assert str(caught.value) == ("nothing to search\nnext: pass --set train.lr=1e-4,3e-4, or --set train.lr=1e-5..1e-2")


def test_a_grid_has_all_combinations_in_an_order_by_seed() -> None:
    space = Space.parse(["a.b=1,2,3", "c.d=x,y"])
    trials = asked(samplers.build_sampler("grid", space, None, 0))
    assert sorted(map(str, trials)) == sorted(map(str, space.list_combinations()))
    assert trials == asked(samplers.build_sampler("grid", space, None, 0))
    assert trials != asked(samplers.build_sampler("grid", space, None, 1))
    assert len(asked(samplers.build_sampler("grid", space, 4, 0))) == 4


def test_a_grid_of_ranges_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        samplers.build_sampler("grid", SPACE, None, 0)
    assert str(caught.value) == (
        "train.batch_size, train.ema_decay, train.lr is a range, and --sampler grid needs a list of values\n"
        "next: pass --sampler random --trials 20, or list the values: --set train.lr=1e-4,3e-4"
    )


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_samples_are_in_range_reproducible_and_typed(name: str) -> None:
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


def test_a_wide_range_is_sampled_on_a_logarithmic_scale() -> None:
    rng = np.random.default_rng(0)
    drawn = [Range(1e-5, 1e-1).sample(rng) for _ in range(400)]
    assert 0.4 < np.mean(np.array(drawn) < 1e-3) < 0.6
    whole = [Range(1, 100).sample(rng) for _ in range(400)]
    assert 0.4 < np.mean(np.array(whole) <= 10) < 0.6
    assert {type(one) for one in whole} == {int}
    assert min(whole) == 1


def test_integers_are_sampled_uniformly() -> None:
    rng = np.random.default_rng(0)
    drawn = [Range(2, 4).sample(rng) for _ in range(300)]
    assert min(drawn.count(number) for number in (2, 3, 4)) > 70


def test_rounded_samples_are_in_range() -> None:
    rng = np.random.default_rng(0)
    drawn = [Range(0.12345, 0.12351).sample(rng) for _ in range(50)]
    assert min(drawn) >= 0.12345
    assert max(drawn) <= 0.12351


def test_tpe_accepts_a_failed_trial() -> None:
    sampler = samplers.build_sampler("tpe", Space.parse(["train.lr=1e-6..1"]), 30, 0)
    far = []
    while (keys := sampler.ask()) is not None:
        far.append(keys["train.lr"])
        sampler.tell(keys, -np.inf if keys["train.lr"] > 1e-3 else 0.8)
    assert np.mean(np.array(far[15:]) < 1e-3) > np.mean(np.array(far[:10]) < 1e-3)


def test_tpe_converges_to_good_scores() -> None:
    space = Space.parse(["train.lr=1e-6..1"])
    trials = asked(samplers.build_sampler("tpe", space, 40, 0))
    far = [abs(np.log10(keys["train.lr"] / 3e-4)) for keys in trials]
    assert np.median(far[20:]) < 0.6 * np.median(far[:10])


def test_tpe_without_optuna_has_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError) as caught:
        samplers.build_sampler("tpe", SPACE, None, 0)
    assert str(caught.value) == "--sampler tpe needs Optuna\nnext: pip install -e '.[sweep]'"


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        samplers.build_sampler("gird", SPACE, None, 0)
    assert str(caught.value) == "--sampler gird: did you mean 'grid'?\nnext: pass --sampler grid"
