"""Claim: the report of 150,000 training images has less than 20 MB, and opens in less than 2 s.

    python benchmarks/report_size.py [--images 150000] [--pictures FOLDER]

Places that many random fingerprints on the map, renders a page with a full gallery, and opens it five times in the
system's Chromium, until the map is drawn. Shows the seconds for the map's places, the sizes of the page and of the map,
and the median of the seconds to open the page. The pictures are drawn portraits of 256 px, or those in FOLDER, in turn.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from ffdi.data.images import decode
from ffdi.demo import portraits
from ffdi.reporting import gallery, image_map, pairs, pictures, thresholds, views
from ffdi.reporting.gallery import Exhibit
from ffdi.reporting.image_map import ImageMap
from ffdi.reporting.page import Gallery, Page

ROUNDS = 5
DRAWN = "document.querySelector('#map .map canvas').dataset.visible"


def draw_map(count: int, images: list[np.ndarray]) -> tuple[ImageMap, float]:
    """The map, and the seconds for its places."""
    rng = np.random.default_rng(0)
    target = np.arange(count) % 2
    scenes = rng.integers(0, 256, (200, 256))
    fingerprint = np.clip(scenes[rng.integers(200, size=count)] + rng.normal(0, 40, (count, 256)), 0, 255)
    start = time.perf_counter()
    places = image_map.place_images(image_map.compute_features(fingerprint.astype(np.uint8), 0), 0)
    seconds = time.perf_counter() - start
    rows = image_map.choose_thumbnails(count, [], 0)
    sheet = image_map.draw_sheet(len(rows), lambda place: images[place % len(images)])
    names = np.array([f"{number:032x}.jpg" for number in rng.permutation(count)])
    kinds = np.array(["", "swap"])[target]
    return ImageMap(names, places, target, kinds, rng.random(count), rows, sheet), seconds


def show_gallery(images: list[np.ndarray]) -> Gallery:
    """As many images as a report shows at most."""
    heat = np.random.default_rng(0).random((56, 56))
    most = len(gallery.KINDS) * gallery.MAX_IMAGES + 2 * pairs.MAX_PAIRS * pairs.MAX_IMAGES
    exhibits = []
    for number in range(most):
        pixels = images[number % len(images)]
        shown = pictures.encode_picture(pixels), pictures.encode_overlay(heat), views.render_views(pixels, None)
        exhibits.append(Exhibit(f"{number}.jpg", 0, number % 2, 0.5, ["uncertain"], *shown, []))
    return Gallery(exhibits, gallery.KINDS, "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=150_000)
    parser.add_argument("--pictures", type=Path)
    asked = parser.parse_args()
    if asked.pictures:
        images = [decode.read_image(path) for path in sorted(asked.pictures.iterdir())[:400]]
    else:
        images = [portraits.draw_portrait(np.random.default_rng(number), 256) for number in range(40)]
    drawn, seconds = draw_map(asked.images, images)
    shown = show_gallery(images)
    counts = thresholds.count_errors(drawn.target, drawn.y_pred)
    page = Page("150,000 images", [], [], [], counts, [], shown, drawn, [], {})
    empty = Page("none", [], [], [], counts, [], Gallery([], gallery.KINDS, ""), drawn, [], {})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        path.write_text(page.render(), encoding="utf-8")
        size, of_map = path.stat().st_size / 1e6, len(empty.render()) / 1e6
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            opened = []
            for _ in range(ROUNDS):
                tab = chromium.new_page()
                start = time.perf_counter()
                tab.goto(path.as_uri())
                tab.wait_for_function(f"{DRAWN} === '{asked.images}'", polling=20)
                opened.append(time.perf_counter() - start)
                tab.close()
    print(f"places on the map: {seconds:.0f} s")
    print(
        f"page: {size:.1f} MB, of them the map {of_map:.1f} MB and {len(shown.exhibits)} images {size - of_map:.1f} MB"
    )
    print(f"opens in {statistics.median(opened):.2f} s ({min(opened):.2f} to {max(opened):.2f})")


if __name__ == "__main__":
    main()
