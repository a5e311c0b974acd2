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
    file: Path, *, width: int = 1200, height: int = 900, scheme: str = "light"
) -> Iterator[Any]:
    """Yield playwright's page on a file, and fail on a word on its console or a request it makes.

    scheme is `light` or `dark`. Skips with a reason where there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium, or CHROMIUM=its path")
    heard: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.on("console", lambda said: heard.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith(("file:", "data:", "blob:"))
                else heard.append(f"request: {asked.url}")
            ),
        )
        page.goto(file.as_uri())
        yield page
        browser.close()
    assert not heard
