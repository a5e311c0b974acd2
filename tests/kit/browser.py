"""Pages in a headless Chromium: what they say on the console, and how they look."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def browser_page(
    place: Path | str,
    *,
    width: int = 1200,
    height: int = 900,
    scheme: str = "light",
    camera: bool = False,
) -> Iterator[Any]:
    """Yield playwright's page on a file or an address; a word on its console fails, or a request.

    scheme is `light` or `dark`. camera: there is one, which shows a moving shape.
    Skips with a reason where there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium, or CHROMIUM=its path")
    heard: list[str] = []
    address = place if isinstance(place, str) else place.as_uri()
    with sync_playwright() as play:
        seen = [f"--use-fake-{what}-for-media-stream" for what in ("device", "ui") if camera]
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox", *seen])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.on("console", lambda said: heard.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith(("file:", "data:", "blob:", address))
                else heard.append(f"request: {asked.url}")
            ),
        )
        page.goto(address)
        yield page
        browser.close()
    assert not heard


# Contrast of each text with what is behind it, by WCAG 2.2 (1.4.3); 3 suffices for large text.
_FAINT = """() => {
  const rgba = (text) => {
    const numbers = text.match(/[\\d.]+(e-?\\d+)?/g).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return [...numbers.slice(0, 3).map((v) => v * scale), numbers[3] ?? 1];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] > 0) return colour;
    }
    return [255, 255, 255, 1];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), element = walk.currentNode.parentElement;
    if (!text || element.closest("script, style") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = rgba(element.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05), large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) found.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""


def faint(page: Any) -> list[str]:
    """Return the texts of a page whose contrast is below what WCAG AA wants, with the ratio."""
    return list(page.evaluate(_FAINT))


def too_wide(page: Any) -> int:
    """Return by how many pixels a page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def keep(page: Any, name: str, folder: Path) -> Path:
    """Write a picture of the whole page into $ZOO_SCREENSHOTS, or else into a folder."""
    place = Path(os.environ.get("ZOO_SCREENSHOTS") or folder) / f"{name}.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=place, full_page=True)
    return place
