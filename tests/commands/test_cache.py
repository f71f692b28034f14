"""invoke cache, and what trains from it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ffdi.experiments import experiment
from tests.conftest import TINY, Invoke

WORDS = ["--experiment", "tiny", "--data"]
PIXELS = TINY + "[cache]\ndecoded = true\n"


@pytest.fixture
def data(competition: Path, tmp_path: Path) -> Path:
    """The competition, to be changed."""
    shutil.copytree(competition, tmp_path / "data")
    return tmp_path / "data"


def folder(workspace: Path, kind: str) -> Path:
    """The folder of the only cache of a kind."""
    (found,) = (workspace / "data" / "cache").glob(f"*/{kind}*")
    return found


def trained(workspace: Path, data: Path, invoke: Invoke) -> tuple[str, dict[str, bytes]]:
    """What a training says, and what it ends in; it is thrown away."""
    answer = invoke("train-folds", *WORDS, str(data))
    assert (answer.code, answer.err) == (0, "")
    tiny = workspace / "experiments" / "tiny"
    files = {
        str(path.relative_to(tiny)): path.read_bytes()
        for path in tiny.rglob("*")
        if path.suffix in (".csv", ".safetensors")
    }
    for path in tiny.iterdir():
        if path.name != "config.toml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    files = {name: content for name, content in files.items() if not name.endswith("history.csv")}
    return answer.out, files


@pytest.mark.parametrize(
    ("config", "kind", "size"),
    [
        (TINY, "bytes", 577_000),
        (PIXELS, "pixels-squash-32", 116 * 3072),
        (f"{PIXELS}size = 36\n", "pixels-squash-36", 116 * 36 * 36 * 3),
    ],
)
def test_training_from_the_cache_ends_in_the_same_bytes(
    workspace: Path, data: Path, invoke: Invoke, config: str, kind: str, size: int
) -> None:
    (workspace / "experiments" / "tiny" / "config.toml").write_text(config)
    output, before = trained(workspace, data, invoke)
    assert "cache: " not in output
    answer = invoke("cache", *WORDS, str(data), "--yes")
    assert (answer.code, answer.err) == (0, "")
    pack = folder(workspace, kind) / "pack"
    assert pack.stat().st_size == pytest.approx(size, rel=0.1)
    assert answer.out.startswith(f"cache: 116 images under {data}, 116 of them to be packed\nto be written: at most ")
    assert answer.out.endswith(
        f"written: {pack} ({pack.stat().st_size / 1000:.0f} kB)\n"
        f"next: invoke train-folds --experiment tiny --data {data}\n"
    )
    output, after = trained(workspace, data, invoke)
    assert f"cache: 116 of 116 images in {pack.parent}\n" in output
    assert set(before) == set(after)
    assert len(before) > 6
    assert [name for name in before if before[name] != after[name]] == []


def test_pixels_change_what_recipes_work_on(workspace: Path, data: Path, invoke: Invoke) -> None:
    damaging = TINY.replace('"flips"', '"postprocess"')
    results = []
    for config in (damaging, damaging + "[cache]\ndecoded = true\n"):
        (workspace / "experiments" / "tiny" / "config.toml").write_text(config)
        results.append(trained(workspace, data, invoke)[1]["oof.csv"])
    assert results[0] != results[1]


def test_new_and_changed_images_are_counted_and_packed(workspace: Path, data: Path, invoke: Invoke) -> None:
    assert invoke("cache", *WORDS, str(data)).code == 0
    names = pd.read_csv(data / "trainset_label.txt").img_name
    (data / "trainset" / names[0]).write_bytes((data / "trainset" / names[0]).read_bytes() + b"\0")
    (data / "valset" / "broken.jpg").write_bytes(b"no image")
    with (data / "valset_label.txt").open("a") as file:
        file.write("broken.jpg,1\n")
    answer = invoke("train-folds", *WORDS, str(data), "--accept", "unusable")
    place = folder(workspace, "bytes")
    command = f"invoke cache --experiment tiny --data {data}"
    line = f"cache: 115 of 117 images in {place}; not in it, or changed since: 2; {command}\n"
    assert (answer.code, line in answer.out) == (0, True)
    answer = invoke("cache", *WORDS, str(data))
    assert answer.out.startswith(f"cache: 117 images under {data}, 2 of them to be packed\n")
    assert f"\n1 image cannot be packed: invoke doctor --experiment tiny --data {data} says why\n" in answer.out


def test_restart_writes_the_cache_again(workspace: Path, data: Path, invoke: Invoke) -> None:
    assert invoke("cache", *WORDS, str(data)).code == 0
    pack = folder(workspace, "bytes") / "pack"
    size = pack.stat().st_size
    for path in sorted((data / "trainset").iterdir()):
        path.write_bytes(path.read_bytes() + b"\0")
    answer = invoke("cache", *WORDS, str(data))
    assert "of it belong to deleted images" not in answer.out
    for path in sorted((data / "trainset").iterdir()):
        path.write_bytes(path.read_bytes() + b"\0")
    answer = invoke("cache", *WORDS, str(data))
    assert " kB of it belong to deleted images: --restart removes them\n" in answer.out
    assert invoke("cache", *WORDS, str(data), "--restart").code == 0
    assert pack.stat().st_size == size + 2 * 64


def test_pixels_are_asked_for(workspace: Path, data: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / "experiments" / "tiny" / "config.toml").write_text(PIXELS)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    answer = invoke("cache", *WORDS, str(data))
    assert (answer.code, answer.err) == (
        1,
        "error: the pixels of these images would take up to 436 kB\nnext: pass --yes to write them\n",
    )
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for output, code in (("", 1), ("n", 1), ("y", 0)):
        monkeypatch.setattr("builtins.input", lambda _question, output=output: output)
        answer = invoke("cache", *WORDS, str(data))
        assert answer.code == code
        if code:
            assert answer.err == (
                "error: nothing was written\nnext: pass --yes, or set cache.decoded = false in config.toml\n"
            )
    assert (folder(workspace, "pixels") / "pack").stat().st_size == 116 * 3072


def test_a_disk_that_is_too_small_is_an_error_first(
    workspace: Path, data: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(data)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    answer = invoke("cache", *WORDS, str(data))
    place = folder(workspace, "bytes")
    assert answer.code == 1
    assert answer.err == (
        f"error: {place} has 1 kB left, and the cache would take up to 667 kB\n"
        "next: free the disk, or set FFDI_ROOT to a folder on a larger one\n"
    )


def test_two_do_not_pack_at_once(workspace: Path, data: Path, invoke: Invoke) -> None:
    assert invoke("cache", *WORDS, str(data)).code == 0
    with experiment.lock_folder(folder(workspace, "bytes"), "", ""):
        answer = invoke("cache", *WORDS, str(data))
    assert answer.code == 1
    assert answer.err.startswith("error: another process (pid ")
    assert answer.err.endswith(f") packs the images of {data}\nnext: wait until it has\n")


def test_crops_cannot_be_kept_in_the_networks_size(workspace: Path, data: Path, invoke: Invoke) -> None:
    config = PIXELS.replace("size = 32", 'size = 32\nresize = "crop"')
    (workspace / "experiments" / "tiny" / "config.toml").write_text(config)
    for command in ("cache", "train-folds"):
        answer = invoke(command, *WORDS, str(data))
        assert answer.code == 1
        assert answer.err == (
            "error: cache.decoded = true and model.resize = 'crop': only whole images can be cached in a "
            "network's size\n"
            "next: set model.resize = 'squash', or cache.decoded = false, in config.toml\n"
        )


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        (
            "decoded = true\nsize = 31\n",
            "error: cache.size = 31 is smaller than model.size = 32\n"
            "next: set a larger cache.size, or 0 for the network's size, in config.toml\n",
        ),
        (
            "size = 64\n",
            "error: cache.size = 64 is the size of decoded images, and cache.decoded = false\n"
            "next: set cache.decoded = true, or cache.size = 0, in config.toml\n",
        ),
    ],
)
def test_a_size_of_the_cache_without_use_is_refused(
    keys: str, error: str, workspace: Path, data: Path, invoke: Invoke
) -> None:
    (workspace / "experiments" / "tiny" / "config.toml").write_text(f"{TINY}[cache]\n{keys}")
    for command in ("cache", "train-folds"):
        answer = invoke(command, *WORDS, str(data))
        assert (answer.code, answer.err) == (1, error)


def test_folders_of_one_name_have_caches_of_their_own(
    workspace: Path, data: Path, tmp_path: Path, invoke: Invoke, snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    shutil.copytree(data, tmp_path / "other" / "data")
    assert invoke("cache", *WORDS, str(data)).code == 0
    before = snapshot(folder(workspace, "bytes"))
    assert invoke("cache", *WORDS, str(tmp_path / "other" / "data")).code == 0
    places = sorted((workspace / "data" / "cache").iterdir())
    assert len(places) == 2
    assert {place.name[:5] for place in places} == {"data-"}
    assert before in [snapshot(place / "bytes-3") for place in places]
