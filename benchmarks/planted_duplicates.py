"""Claims: exact copies are all found, copies changed in one or two ways in at least 95 % of each kind; among the images
themselves at most 0.1 % are called duplicates; a fingerprint costs at most 5 % of decoding a JPEG of 512 px; the pairs
of 150,000 fingerprints are searched in under a minute on two cores.

    python benchmarks/planted_duplicates.py [--data FOLDER] [--count 300] [--sheet PAIRS.png] [--search 150000]

FOLDER has the competition's layout; all its splits are pooled. Without it COUNT portraits are drawn. The sheet shows
the pairs among the images themselves, and their difference six times as strong: look at each of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from ffdi.config import DataConfig
from ffdi.data import dataset, duplicates, fingerprint, images, likeness
from ffdi.data.images import Framing
from ffdi.forge import portraits

Change = Callable[[np.ndarray], np.ndarray]
THREADS = os.cpu_count() or 1


def crop(left: float, top: float, right: float, bottom: float) -> Change:
    """Cuts parts of the width and height off."""

    def change(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        rows = slice(round(top * height), height - round(bottom * height))
        return np.ascontiguousarray(pixels[rows, round(left * width) : width - round(right * width)])

    return change


def jpeg(quality: int) -> Change:
    return lambda pixels: decoded(cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def decoded(content: np.ndarray) -> np.ndarray:
    return images.decode(content.tobytes(), "a planted copy")


def scaled(factor: float) -> Change:
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return lambda pixels: cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=way)


def brighter(factor: float) -> Change:
    return lambda pixels: np.clip(np.rint(pixels * factor), 0, 255).astype(np.uint8)


def contrast(factor: float) -> Change:
    return lambda pixels: np.clip(np.rint((pixels - pixels.mean()) * factor + pixels.mean()), 0, 255).astype(np.uint8)


def then(first: Change, second: Change) -> Change:
    return lambda pixels: second(first(pixels))


AROUND = crop(0.02, 0.02, 0.02, 0.02)
CHANGES: dict[str, Change] = {
    "the same pixels as PNG": lambda pixels: decoded(cv2.imencode(".png", pixels[..., ::-1])[1]),
    "crop 2 % left": crop(0.02, 0, 0, 0),
    "crop 2 % top": crop(0, 0.02, 0, 0),
    "crop 2 % right": crop(0, 0, 0.02, 0),
    "crop 2 % bottom": crop(0, 0, 0, 0.02),
    "crop 2 % around": AROUND,
    "JPEG 70": jpeg(70),
    "size x 0.5": scaled(0.5),
    "size x 0.75": scaled(0.75),
    "size x 1.25": scaled(1.25),
    "size x 1.5": scaled(1.5),
    "brightness + 10 %": brighter(1.1),
    "brightness - 10 %": brighter(0.9),
    "brightness + 20 %": brighter(1.2),
    "brightness - 20 %": brighter(0.8),
    "contrast + 15 %": contrast(1.15),
    "contrast - 15 %": contrast(0.85),
    "crop around, JPEG 70": then(AROUND, jpeg(70)),
    "crop around, size x 0.75": then(AROUND, scaled(0.75)),
    "crop left, size x 0.5": then(crop(0.02, 0, 0, 0), scaled(0.5)),
    "crop corner, brightness + 20 %": then(crop(0.02, 0.02, 0, 0), brighter(1.2)),
    "crop top, brightness - 20 %": then(crop(0, 0.02, 0, 0), brighter(0.8)),
    "size x 0.5, JPEG 70": then(scaled(0.5), jpeg(70)),
    "size x 1.25, JPEG 70": then(scaled(1.25), jpeg(70)),
    "brightness + 20 %, JPEG 70": then(brighter(1.2), jpeg(70)),
    "brightness - 20 %, size x 0.75": then(brighter(0.8), scaled(0.75)),
    "four: crop, size x 0.5, + 10 %, JPEG 70": then(then(AROUND, scaled(0.5)), then(brighter(1.1), jpeg(70))),
}


def gathered(folder: Path | None, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """All images, and target int64 [N], -1 where it is not known."""
    if folder is None:
        return [portraits.draw(np.random.default_rng([7, index]), 224) for index in range(count)], np.full(count, -1)
    splits = dataset.find(folder, DataConfig()).splits.values()
    targets = [np.full(len(one), -1) if one.target is None else one.target for one in splits]
    return [images.read(one.path(index)) for one in splits for index in range(len(one))], np.concatenate(targets)


def planted(pictures: list[np.ndarray], count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """A copy of each kind of `count` of the images, kind after kind, and int64 [copies]: which image each copies."""
    chosen = np.random.default_rng(0).choice(len(pictures), min(count, len(pictures)), replace=False)
    copies = [change(pictures[index]) for change in CHANGES.values() for index in chosen]
    return copies, np.tile(chosen, len(CHANGES))


def printed(pixels: np.ndarray) -> np.ndarray:
    """The fingerprint of RGB pixels."""
    return fingerprint.of(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


def verdicts(pictures: list[np.ndarray], pairs: Iterator[np.ndarray]) -> dict[tuple[int, int], str]:
    """The pairs that are duplicates, and of which kind."""
    every = [(int(first), int(second)) for part in pairs for first, second in part]
    found = {pair: likeness.compare(pictures[pair[0]], pictures[pair[1]]) for pair in every}
    return {pair: verdict for pair, verdict in found.items() if verdict}


def recall(pictures: list[np.ndarray], prints: np.ndarray, count: int) -> None:
    """Prints of each kind how many copies are candidates, and how many are found in the end."""
    copies, source = planted(pictures, count)
    both = np.concatenate([prints, [printed(copy) for copy in copies]])
    wanted = {(int(index), len(prints) + place) for place, index in enumerate(source)}
    near = {tuple(pair) for part in duplicates.candidates(both, THREADS) for pair in part.tolist()} & wanted
    equal = {pair for pair in wanted if np.array_equal(both[pair[0]], both[pair[1]])}  # chained, so found all the same
    group = len(source) // len(CHANGES)
    print(f"{'recall':42}candidate  found   of {group} each")
    for turn, kind in enumerate(CHANGES):
        pairs = [(int(source[at]), len(prints) + at) for at in range(turn * group, (turn + 1) * group)]
        hits = [pair for pair in pairs if pair in near | equal]
        say = [likeness.compare(pictures[first], copies[second - len(prints)]) for first, second in hits]
        right = sum(one == "exact" if turn == 0 else one is not None for one in say)
        print(f"  {kind:40}{len(hits) / group:8.1%}{right / group:9.1%}")


def originals(pictures: list[np.ndarray], target: np.ndarray, prints: np.ndarray, sheet: Path | None) -> None:
    """Prints, and draws, what is found among the images themselves."""
    pairs = list(duplicates.candidates(prints, THREADS))
    found = verdicts(pictures, iter(pairs))
    involved = len({index for pair in found for index in pair})
    opposed = sum({int(target[index]) for index in pair} == {0, 1} for pair in found)
    print(f"{len(pictures)} images: {sum(map(len, pairs))} candidates, {len(found)} pairs found, {opposed} of them of")
    print(f"opposite label; {involved} images, {involved / len(pictures):.2%} (claim 0.1 %)")
    for (first, second), verdict in found.items():
        part = likeness.difference(pictures[first], pictures[second])
        print(f"  {first} and {second}: {verdict}, difference {part:.3f}, labels {target[first]} and {target[second]}")
    if found and sheet is not None:
        cv2.imwrite(str(sheet), np.vstack([row(pictures[first], pictures[second]) for first, second in found]))


def row(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """uint8 BGR [224, 672, 3]: two images and their difference."""
    one, other = Framing(224).frame(first), Framing(224).frame(second)
    apart = np.clip(6 * np.abs(one.astype(int) - other), 0, 255).astype(np.uint8)
    return np.hstack([one, other, apart])[..., ::-1]


def speed(pictures: list[np.ndarray], prints: np.ndarray, search: int) -> None:
    """Prints the costs: of a fingerprint and of a comparison against decoding, and of the search."""
    four = [Framing(256).frame(picture) for picture in pictures[:4]]  # one enlarged would have no detail to decode
    large = np.vstack([np.hstack(four[:2]), np.hstack(four[2:])])
    content = cv2.imencode(".jpg", large[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    decoding, greying, printing, comparing = one_by_one(content)
    print(
        f"one thread, 512 px, JPEG 90: decoding {decoding:.0f} us, to greys {greying / decoding:.0%} of it, "
        f"fingerprint {printing / decoding:.1%}",
        end=" ",
    )
    print(f"(claim 5 %), comparison {comparing / decoding:.1f} times as much")
    many = crowd(prints, search)
    started = time.perf_counter()
    pairs = sum(len(part) for part in duplicates.candidates(many, THREADS))
    print(f"{search} fingerprints: {pairs} candidates in {time.perf_counter() - started:.0f} s, {THREADS} threads")


def one_by_one(content: np.ndarray, runs: int = 400) -> tuple[float, ...]:
    """Median microseconds of decoding, of decoding to greys, of the fingerprint after it; of a comparison, apart."""
    taken = []
    for _ in range(runs):
        times = [time.perf_counter_ns()]
        pixels = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
        times.append(time.perf_counter_ns())
        grey = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
        times.append(time.perf_counter_ns())
        assert grey is not None
        fingerprint.of(grey)
        times.append(time.perf_counter_ns())
        taken.append(np.diff(times) / 1000)
    assert pixels is not None
    started = time.perf_counter_ns()
    for _ in range(50):
        likeness.difference(pixels, pixels[8:])
    comparing = (time.perf_counter_ns() - started) / 50_000
    return *(statistics.median(times) for times in zip(*taken, strict=True)), comparing


def crowd(prints: np.ndarray, count: int) -> np.ndarray:
    """uint8 [count, 256]: mixtures of three images, with the contrast of one and the noise of cameras."""
    rng = np.random.default_rng(1)
    real = prints.astype(np.float32) - 128
    mixed = sum(real[rng.integers(len(real), size=count)] for _ in range(3)) / np.float32(np.sqrt(3))
    return np.clip(mixed + 128 + rng.normal(0, 3, mixed.shape), 0, 255).astype(np.uint8)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--search", type=int, default=150_000)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    pictures, target = gathered(asked.data, asked.count)
    prints = np.stack([printed(picture) for picture in pictures])
    originals(pictures, target, prints, asked.sheet)
    recall(pictures, prints, asked.count)
    speed(pictures, prints, asked.search)


if __name__ == "__main__":
    main()
