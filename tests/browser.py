"""A real browser without a window, and what is asked of every page in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = [360, 800, 1600]
"""Pixels: a phone, a tablet, a wide screen."""


@contextmanager
def started() -> Iterator[Browser]:
    """The system's Chromium; where there is none the test is skipped."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: install the system's package chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@contextmanager
def opened(browser: Browser, address: str, width: int, *, offline: bool = False) -> Iterator[tuple[Page, list[str]]]:
    """The page at a width, in dark colours at the middle one, and the list that its console and its errors go to."""
    colours = "dark" if width == WIDTHS[1] else "light"
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=colours, offline=offline)
    page, messages = context.new_page(), list[str]()
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(address)
    yield page, messages
    context.close()


def check_both_themes(page: Page) -> None:
    """Nothing is cut off, and axe finds nothing, in light and in dark colours."""
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours)  # type: ignore[arg-type]
        assert find_cut_off(page) == []
        assert barriers(page) == []


def barriers(page: Page) -> list[Any]:
    """What axe finds that keeps people from using the page: its rule and the first place."""
    return [(found["id"], found["nodes"][0]["html"]) for found in Axe().run(page)["violations"]]


def find_cut_off(page: Page) -> list[Any]:
    """Tables, text and pictures that are cut off at the side, or that a reader has to scroll to: tag and start."""
    found: list[Any] = page.evaluate(
        """() => [document.documentElement, ...document.querySelectorAll("main *, header *")].filter(one => {
          const style = getComputedStyle(one), box = one.getBoundingClientRect();
          if (!box.width || style.textOverflow === "ellipsis" || one.closest("nav, thead, svg, dialog")) return false;
          return one.scrollWidth > one.clientWidth + 1 && style.display !== "inline" || box.right > innerWidth + 1;
        }).map(one => [one.tagName, one.textContent.slice(0, 60)])"""
    )
    return found
