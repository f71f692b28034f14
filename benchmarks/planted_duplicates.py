"""Claims: of copies that were made half to a quarter in size, saved as JPEG of quality 20, cropped by 10 %, brightened,
darkened, graded, made grey, mirrored, turned by 5 degrees, letterboxed or covered by a logo of 20 %, at least 95 % of
each kind are found; at most 0.1 % of the images are joined wrongly; keypoints cost less than decoding a JPEG of 512 px;
of 525,000 images the candidates are found in a minute on two cores, and the time grows with the images.

    python benchmarks/planted_duplicates.py [--data FOLDER] [--count 100] [--sheet PAIRS.png]
    python benchmarks/planted_duplicates.py --data FOLDER --search 10000,50000,150000,525000

FOLDER has the competition's layout; all its splits are pooled. Without it COUNT portraits are drawn. Each kind is
planted alone: COUNT copies among all images, which are searched as `invoke doctor` does. 'near' copies would be
refused in another split; 'scene' ones are kept in one fold. The sheet shows the pairs among the images themselves that
no groups.csv explains, and their difference six times as strong: inspect each of them.

--search measures the search alone. Its images are made of keypoints drawn from different images of FOLDER, with one bit
in sixteen changed and moved by up to two pixels, so that codes which are common among faces stay common and no image is
another one's copy; a hundredth are copies, with one bit in sixteen changed once more.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from ffdi.config.schema import DataConfig
from ffdi.data.images import decode, descriptors
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.inspection import likeness, near_duplicates
from ffdi.data.labels import layout
from ffdi.demo import portraits

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
    return decode.decode(content.tobytes(), "a planted copy")


def scaled(factor: float) -> Change:
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return lambda pixels: cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=way)


def brighter(factor: float) -> Change:
    return lambda pixels: rounded(pixels * float(factor))


def contrast(factor: float) -> Change:
    return lambda pixels: rounded((pixels - pixels.mean()) * factor + pixels.mean())


def gamma(power: float) -> Change:
    return lambda pixels: rounded(255 * (pixels / 255) ** power)


def rounded(pixels: np.ndarray) -> np.ndarray:
    whole: np.ndarray = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return whole


def grey(pixels: np.ndarray) -> np.ndarray:
    shades: np.ndarray = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return shades


def hue(degrees: int, saturation: float = 1.0) -> Change:
    def change(pixels: np.ndarray) -> np.ndarray:
        colour = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV).astype(np.float32)
        colour[..., 0] = (colour[..., 0] + degrees / 2) % 180
        colour[..., 1] *= saturation
        return cv2.cvtColor(rounded(colour), cv2.COLOR_HSV2RGB)

    return change


def graded(pixels: np.ndarray) -> np.ndarray:
    """Warmer shadows, colder lights."""
    mixed = pixels / 255 @ np.array([[1.1, -0.02, -0.05], [0.05, 1.0, 0.1], [-0.05, 0.02, 0.85]])
    return rounded(255 * np.clip(mixed + np.array([0.04, 0, -0.03]), 0, 1) ** 0.9)


def blurred(sigma: float) -> Change:
    def change(pixels: np.ndarray) -> np.ndarray:
        soft: np.ndarray = cv2.GaussianBlur(pixels, (0, 0), sigma)
        return soft

    return change


def noisy(sigma: float) -> Change:
    return lambda pixels: rounded(pixels + own_rng(pixels).normal(0, sigma, pixels.shape))


def own_rng(pixels: np.ndarray) -> np.random.Generator:
    return np.random.default_rng(int(pixels.sum()))


def logo(share: float) -> Change:
    """A square with letters in one of the corners, of one colour each."""

    def change(pixels: np.ndarray) -> np.ndarray:
        rng, (height, width) = own_rng(pixels), pixels.shape[:2]
        edge = round((share * height * width) ** 0.5)
        patch = np.full((edge, edge, 3), rng.integers(0, 256, 3), np.uint8)
        ink = tuple(rng.integers(0, 256, 3).tolist())
        cv2.putText(patch, "LOGO", (2, edge * 2 // 3), cv2.FONT_HERSHEY_SIMPLEX, edge / 90, ink, max(1, edge // 25))
        covered = pixels.copy()
        top, left = rng.integers(2) * (height - edge), rng.integers(2) * (width - edge)
        covered[top : top + edge, left : left + edge] = patch
        return covered

    return change


def turned(degrees: float, border: int = cv2.BORDER_REFLECT) -> Change:
    def change(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
        return cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=border)

    return change


def bars(vertical: float, horizontal: float) -> Change:
    """Black bars above and below, left and right, in parts of the height and width."""

    def change(pixels: np.ndarray) -> np.ndarray:
        down, across = round(vertical * pixels.shape[0]), round(horizontal * pixels.shape[1])
        return cv2.copyMakeBorder(pixels, down, down, across, across, cv2.BORDER_CONSTANT)

    return change


def next_frame(pixels: np.ndarray) -> np.ndarray:
    """No video is at hand: the face turns, nears and moves before the same backdrop; other noise and compression."""
    rng, (height, width) = own_rng(pixels), pixels.shape[:2]
    face: np.ndarray = np.zeros((height, width), np.float32)
    cv2.ellipse(face, (width // 2, height // 2), (width * 28 // 100, height * 38 // 100), 0, 0, 360, 1, -1)
    face = cv2.GaussianBlur(face, (0, 0), width / 40)[..., None]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-4, 4), rng.uniform(0.96, 1.04))
    matrix[:, 2] += rng.uniform(-0.04, 0.04, 2) * width
    moved = cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    return jpeg(75)(rounded(face * moved + (1 - face) * pixels + rng.normal(0, 2, pixels.shape)))


def then(*changes: Change) -> Change:
    def change(pixels: np.ndarray) -> np.ndarray:
        for one in changes:
            pixels = one(pixels)
        return pixels

    return change


CHANGES: dict[str, Change] = {
    "the same pixels as PNG": lambda pixels: decoded(cv2.imencode(".png", pixels[..., ::-1])[1]),
    "size x 0.5": scaled(0.5),
    "size x 0.33": scaled(1 / 3),
    "size x 0.25": scaled(0.25),
    "size x 1.5": scaled(1.5),
    "JPEG 30": jpeg(30),
    "JPEG 20": jpeg(20),
    "size x 0.5, JPEG 40": then(scaled(0.5), jpeg(40)),
    "crop 2 % around": crop(0.02, 0.02, 0.02, 0.02),
    "crop 5 % of a corner": crop(0.05, 0.05, 0, 0),
    "crop 10 % of a corner": crop(0.1, 0.1, 0, 0),
    "crop 5 % around": crop(0.05, 0.05, 0.05, 0.05),
    "brightness x 0.5": brighter(0.5),
    "brightness x 1.5": brighter(1.5),
    "brightness x 2": brighter(2),
    "contrast x 0.5": contrast(0.5),
    "contrast x 2": contrast(2),
    "gamma 0.5": gamma(0.5),
    "gamma 2": gamma(2),
    "grey": grey,
    "hue by 30 degrees": hue(30),
    "hue by 180 degrees": hue(180),
    "saturation x 0.5": hue(0, 0.5),
    "saturation x 1.5": hue(0, 1.5),
    "graded": graded,
    "mirrored": lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
    "turned by 2 degrees": turned(2),
    "turned by 5 degrees": turned(5),
    "turned by 5 degrees, black corners": turned(5, cv2.BORDER_CONSTANT),
    "bars above and below, 12 % each": bars(0.12, 0),
    "bars above and below, 25 % each": bars(0.25, 0),
    "bars left and right, 15 % each": bars(0, 0.15),
    "logo of 5 %": logo(0.05),
    "logo of 20 %": logo(0.2),
    "mirrored, cropped by 3 %, JPEG 40": then(
        lambda pixels: np.ascontiguousarray(pixels[:, ::-1]), crop(0.03, 0.03, 0.03, 0.03), jpeg(40)
    ),
    "grey, size x 0.5, JPEG 50": then(grey, scaled(0.5), jpeg(50)),
}
"""What has to be found."""
BEYOND: dict[str, Change] = {
    "size x 0.125": scaled(0.125),
    "JPEG 10": jpeg(10),
    "crop 10 % around": crop(0.1, 0.1, 0.1, 0.1),
    "crop 15 % around": crop(0.15, 0.15, 0.15, 0.15),
    "blur of 2 px": blurred(2),
    "blur of 4 px": blurred(4),
    "noise of 10 levels": noisy(10),
    "noise of 25 levels": noisy(25),
    "turned by 10 degrees": turned(10),
    "turned by 90 degrees": lambda pixels: np.ascontiguousarray(np.rot90(pixels)),
    "logo of 30 %": logo(0.3),
    "the next frame": next_frame,
}
"""Where limits lie; no claim."""


def gathered(folder: Path | None, count: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """All images, target int64 [N], -1 where it is not known, and group str [N], '' where it is not known."""
    if folder is None:
        drawn = [portraits.draw_portrait(np.random.default_rng([7, index]), 224) for index in range(count)]
        return drawn, np.full(count, -1), np.full(count, "")
    splits = layout.find_dataset(folder, DataConfig()).splits.values()
    targets = [np.full(len(one), -1) if one.target is None else one.target for one in splits]
    pictures = [decode.read_image(one.path(index)) for one in splits for index in range(len(one))]
    names = np.concatenate([one.img_name for one in splits])
    listed = folder / "groups.csv"
    rows = dict(line.split(",")[:2] for line in listed.read_text().splitlines()[1:]) if listed.is_file() else {}
    return pictures, np.concatenate(targets), np.array([rows.get(name, "") for name in names.tolist()])


def looked_at(pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints and keypoints of RGB images."""
    greys = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in pictures]
    return np.stack([descriptors.compute_fingerprint(one) for one in greys]), np.stack(
        [descriptors.compute_keypoints(one) for one in greys]
    )


def searched(prints: np.ndarray, points: np.ndarray) -> list[tuple[int, int]]:
    """The candidates."""
    pairs = np.concatenate(list(near_duplicates.find_candidates(prints, points, THREADS)))
    return [(int(first), int(second)) for first, second in pairs]


def originals(
    pictures: list[np.ndarray], target: np.ndarray, group: np.ndarray, found: list[tuple[int, int]], sheet: Path | None
) -> None:
    """Prints, and draws, what is found among the images themselves."""
    with ThreadPoolExecutor(THREADS) as pool:
        verdicts = list(pool.map(lambda pair: likeness.compare(pictures[pair[0]], pictures[pair[1]]), found))
    print(f"{len(pictures)} images, {len(found)} candidates")
    other = [not group[one] or group[one] != group[two] for one, two in found]
    for kind in ("exact", "near", "scene"):
        mine = [at for at, verdict in enumerate(verdicts) if verdict == kind]
        strange = [at for at in mine if other[at]]
        opposed = sum({int(target[index]) for index in found[at]} == {0, 1} for at in mine)
        involved = len({index for at in strange for index in found[at]})
        print(
            f"  {kind}: {len(mine)} pairs, {opposed} of opposite label; {len(strange)} that no group explains, of "
            f"{involved} images, {involved / len(pictures):.2%}"
        )
    joined = [found[at] for at, verdict in enumerate(verdicts) if verdict]
    sizes = np.unique(near_duplicates.cluster_pairs(len(pictures), np.array(joined, np.int64)), return_counts=True)[1]
    print(f"  the largest scene: {sizes.max()} images")
    shown = [found[at] for at, verdict in enumerate(verdicts) if verdict and other[at]]
    if shown and sheet is not None:
        cv2.imwrite(str(sheet), np.vstack([row(pictures[one], pictures[two]) for one, two in shown]))


def row(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """uint8 BGR [224, 672, 3]: two images and their difference."""
    one, other = ResizePolicy(224).apply(first), ResizePolicy(224).apply(second)
    apart = np.clip(6 * np.abs(one.astype(int) - other), 0, 255).astype(np.uint8)
    return np.hstack([one, other, apart])[..., ::-1]


def recall(pictures: list[np.ndarray], prints: np.ndarray, points: np.ndarray, count: int) -> None:
    """Prints of each kind how many copies are candidates, and as what they are found in the end."""
    chosen = np.random.default_rng(0).choice(len(pictures), min(count, len(pictures)), replace=False)
    print(f"{'copies':38}candidate   near  near or scene   of {len(chosen)} each")
    for kind, change in (CHANGES | BEYOND).items():
        copies = [change(pictures[index]) for index in chosen]
        more = looked_at(copies)
        pairs = set(searched(np.concatenate([prints, more[0]]), np.concatenate([points, more[1]])))
        equal = (prints[chosen] == more[0]).all(1)  # those are chained, so found all the same
        hits = [at for at, index in enumerate(chosen) if equal[at] or (int(index), len(pictures) + at) in pairs]
        with ThreadPoolExecutor(THREADS) as pool:
            compared = ((pictures[chosen[at]] for at in hits), (copies[at] for at in hits))
            verdicts = list(pool.map(likeness.compare, *compared))
        shares = [
            len(hits),
            sum(one in ("exact", "near") for one in verdicts),
            sum(one is not None for one in verdicts),
        ]
        figures = "".join(f"{share / len(chosen):9.1%}" for share in shares)
        beyond = "  beyond the claim" if kind in BEYOND else ""
        print(f"  {kind:36}{figures}{beyond}", flush=True)


def costs(pictures: list[np.ndarray], runs: int = 300) -> None:
    """Prints the costs of keypoints and of a comparison against decoding."""
    four = [ResizePolicy(256).apply(picture) for picture in pictures[:4]]  # one enlarged would have no detail to decode
    large = np.vstack([np.hstack(four[:2]), np.hstack(four[2:])])
    content = cv2.imencode(".jpg", large[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    shade = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
    assert shade is not None
    steps: dict[str, Callable[[], object]] = {
        "decoding": lambda: cv2.imdecode(content, cv2.IMREAD_COLOR_RGB),
        "to greys": lambda: cv2.imdecode(content, cv2.IMREAD_GRAYSCALE),
        "fingerprint": lambda: descriptors.compute_fingerprint(shade),
        "keypoints": lambda: descriptors.compute_keypoints(shade),
        "comparison": lambda: likeness.compare(large, large[8:]),
    }
    taken: dict[str, list[int]] = {name: [] for name in steps}
    for _ in range(runs):
        for name, step in steps.items():
            started = time.thread_time_ns()
            step()
            taken[name].append(time.thread_time_ns() - started)
    median = {name: statistics.median(times) / 1000 for name, times in taken.items()}
    decoding = median["decoding"]
    print(
        "one thread, 512 px, JPEG 90, processor time: "
        + ", ".join(f"{name} {us:.0f} us" for name, us in median.items())
    )
    scan_cost = median["to greys"] + median["fingerprint"] + median["keypoints"]
    print(
        f"a scan takes {scan_cost / decoding:.2f} times decoding (claim 2), a comparison "
        f"{median['comparison'] / decoding:.0f}"
    )


def search(points: np.ndarray, rows: int) -> None:
    """Prints what a search among many images takes, and how many of its planted copies it finds."""
    rng = np.random.default_rng(1)
    many, planted = crowd(points, rows, rng), rows // 100
    source = rng.choice(rows - planted, planted, replace=False)
    many[rows - planted :] = blurry(many[source], rng)
    prints = np.arange(rows, dtype=np.uint64).view(np.uint8).reshape(rows, 8)  # all unlike
    started, used = time.perf_counter(), time.process_time()
    pairs = set(searched(prints, many))
    seconds, used = time.perf_counter() - started, time.process_time() - used
    hits = len(pairs & {(int(one), rows - planted + at) for at, one in enumerate(source)})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(
        f"{rows:8} images: {seconds:6.1f} s, {used:6.1f} s of processor time, {used / rows * 1e6:5.0f} us each; "
        f"{hits / planted:.1%} of {planted} copies, {(len(pairs) - hits) / rows:.4f} other candidates each; "
        f"peak {peak:.0f} MB",
        flush=True,
    )


def crowd(points: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """uint64 [rows, 40]: keypoints of different images under one another."""
    many = np.empty((rows, descriptors.COUNT), np.uint64)
    for start in range(0, rows, 10_000):
        part = many[start : start + 10_000]
        part[:] = blurry(points[rng.integers(len(points), size=part.shape), np.arange(descriptors.COUNT)], rng)
    return many


def blurry(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keypoints with one bit of their codes in sixteen changed, and moved by up to two pixels."""
    four = rng.integers(1 << 31, size=(4, *points.shape), dtype=np.uint64)
    x, y = (
        np.clip(at + rng.integers(-2, 3, at.shape), 5, 90).astype(np.uint64) for at in descriptors.get_positions(points)
    )
    rest = points & np.uint64((1 << descriptors.ACROSS) - 1)
    placed = x << np.uint64(descriptors.ACROSS) | y << np.uint64(descriptors.DOWN)
    return np.where(points > 0, (rest ^ np.bitwise_and.reduce(four)) | placed, np.uint64(0))


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--search")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    pictures, target, group = gathered(asked.data, asked.count)
    prints, points = looked_at(pictures)
    if asked.search:
        for rows in map(int, asked.search.split(",")):
            search(points, rows)
        return
    costs(pictures)
    originals(pictures, target, group, searched(prints, points), asked.sheet)
    recall(pictures, prints, points, asked.count)


if __name__ == "__main__":
    main()
