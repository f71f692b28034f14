"""Experiments that differ from another one in a few keys."""

from __future__ import annotations

import tomllib

import pytest

from ffdi.config import variants
from ffdi.core.errors import ConfigError

BASE = 'seed = 4\n[train]\nlr = 1e-3\n[augment]\nrecipe = "light"\n'


def test_words_are_parsed_into_a_grid() -> None:
    words = ["train.lr=1e-4, 3e-4", "augment.recipe=light,strong", "train.sam_rho=0", "train.class_weights=true,false"]
    assert variants.parse_grid(words) == {
        "train.lr": [1e-4, 3e-4],
        "augment.recipe": ["light", "strong"],
        "train.sam_rho": [0],
        "train.class_weights": [True, False],
    }
    assert variants.parse_grid(['pseudo_fakes.methods=["self_blend"],["face_swap","self_blend"]']) == {
        "pseudo_fakes.methods": [["self_blend"], ["face_swap", "self_blend"]]
    }


@pytest.mark.parametrize("word", ["train.lr", "train.lr=", "=3", "  =  "])
def test_a_word_without_key_or_value_is_refused(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        variants.parse_grid([word])
    assert str(caught.value) == f"--set {word}: no key with values\nnext: pass --set train.lr=1e-4,3e-4"


def test_a_duplicate_key_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        variants.parse_grid(["train.lr=1", "train.lr=2"])
    assert str(caught.value) == (
        "--set train.lr=2: train.lr is a duplicate\nnext: pass all its values together: train.lr=A,B"
    )


def test_every_combination_exists_once() -> None:
    made = variants.expand_grid({"a": [1, 2], "b": ["x", "y", "z"]})
    assert len(made) == 6
    assert made[:2] == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}]
    assert variants.expand_grid({}) == [{}]


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"train.lr": 0.0003, "augment.recipe": "strong"}, "base-lr_0.0003-recipe_strong"),
        ({"model.backbone": "convnext_atto.d2_in1k"}, "base-backbone_convnext_atto.d2_in1k"),
        ({"pseudo_fakes.methods": ["self_blend", "face_swap"]}, "base-methods_self_blend_face_swap"),
        ({"folds.seed": 1, "seed": 2}, "base-folds.seed_1-seed_2"),
        ({"model.weights_file": "../a/b.pth"}, "base-weights_file_.._a_b.pth"),
    ],
)
def test_the_name_has_the_changed_keys_and_is_a_folder_name(keys: variants.Keys, name: str) -> None:
    assert variants.name_variant("base", keys) == name


def test_a_variant_differs_from_its_base_only_in_its_keys() -> None:
    written = variants.format_variant("base", BASE, {"train.lr": 0.5, "pseudo_fakes.fraction": 0.25})
    assert written.startswith("# base with train.lr = 0.5, pseudo_fakes.fraction = 0.25; written by ffdi\n\n")
    assert tomllib.loads(written) == {
        "seed": 4,
        "train": {"lr": 0.5},
        "augment": {"recipe": "light"},
        "pseudo_fakes": {"fraction": 0.25},
    }


def test_another_seed_has_the_same_folds() -> None:
    assert tomllib.loads(variants.format_variant("base", BASE, {"seed": 5}))["folds"] == {"seed": 4}
    assert tomllib.loads(variants.format_variant("base", BASE, {"seed": 5, "folds.seed": 6}))["folds"] == {"seed": 6}


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("train.lrr", 1, "unknown key 'train.lrr': did you mean 'lr'?"),
        ("train.lr", "high", "train.lr = 'high': input should be a valid number"),
        ("nothing.at.all", 1, "unknown key 'nothing': "),
    ],
)
def test_an_invalid_value_is_refused(key: str, value: object, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        variants.format_variant("base", BASE, {key: value})
    assert caught.value.what == f"base with {key} = {value!r} has 1 bad key"
    assert caught.value.problems[0].startswith(problem)


@pytest.mark.parametrize("keys", [{"train": {"lr": 1}}, {"group.members": ["a"]}])
def test_sections_and_groups_are_refused(keys: variants.Keys) -> None:
    with pytest.raises(ConfigError) as caught:
        variants.format_variant("base", BASE, keys)
    assert str(caught.value) == f"{next(iter(keys))} is no key of one experiment\nnext: name a key such as train.lr"


def test_words_in_a_list_need_quotes() -> None:
    with pytest.raises(ConfigError) as caught:
        variants.parse_grid(["pseudo_fakes.methods=[self_blend]"])
    assert str(caught.value) == (
        "--set pseudo_fakes.methods=[self_blend]: not a list as in config.toml\n"
        "next: pass --set 'pseudo_fakes.methods=[\"self_blend\"]', with quotes around words"
    )


@pytest.mark.parametrize("word", ["9" * 5000, "[" * 5000 + "]"])
def test_text_that_is_not_toml_is_a_string(word: str) -> None:
    assert variants.parse_value(word) == word


def test_a_key_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        variants.format_variant("base", BASE, {"seed.more": 1})
    assert str(caught.value) == "unknown key 'seed.more'\nnext: docs/config.md has every key"


COMMENTED = "# the purpose\nseed = 4  # of the folds too\n\n[train]\nlr = 1e-3\nepochs = 3  # few\n"


def test_a_changed_key_leaves_all_other_lines_as_they_were() -> None:
    changed = variants.change_keys(COMMENTED, {"train.epochs": 17})
    assert changed == COMMENTED.replace("epochs = 3", "epochs = 17")
    assert variants.change_keys(changed, {"train.epochs": 3}) == COMMENTED


@pytest.mark.parametrize(
    "content", ["seed = 1\n", "", "[model]\nsize = 64", 'train.lr = 0.5\n[augment]\nrecipe = "light"\n']
)
def test_a_missing_key_is_added(content: str) -> None:
    expected = tomllib.loads(content)
    expected.setdefault("train", {})["epochs"] = 2
    assert tomllib.loads(variants.change_keys(content, {"train.epochs": 2})) == expected


def test_a_changed_value_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"config.toml has 1 bad key"):
        variants.change_keys(COMMENTED, {"train.epochs": 0})
