"""Self-contained pages: names of users stay text, and only the template's own script runs."""

from __future__ import annotations

import html

import pytest
from kit.browser import browser_page
from PIL import Image

from zoo.report.page import small_picture, write_page

EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
PAGE = """{% extends "base.html.j2" %}{% import "parts.html.j2" as parts %}
{% block title %}{{ title }}{% endblock %}
{% block body %}<h1>{{ title }}</h1>{{ parts.table(["class", "photos"], [[title, 3]], " r") }}
{{ parts.gallery([{"picture": picture, "alt": title, "lines": [title, "2"]}]) }}{% endblock %}
{% block script %}<script>document.body.dataset.ran = "yes";</script>{% endblock %}"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page of a template that has all parts, with a hostile name in each."""
    import jinja2

    monkeypatch.setattr(
        jinja2,
        "PackageLoader",
        lambda name, real=jinja2.PackageLoader: jinja2.ChoiceLoader(
            [jinja2.DictLoader({"page.html.j2": PAGE}), real(name)]
        ),
    )
    picture = small_picture(Image.new("RGB", (300, 200), "teal"))
    write_page(tmp_path / "a page.html", "page.html.j2", title=EVIL, picture=picture, version="1")
    return tmp_path / "a page.html"


def test_a_name_in_a_page_stays_text(page):
    text = page.read_text()
    assert "<script>document.title" not in text
    assert "<img src=x" not in text
    assert html.unescape(text).count(EVIL) == 5


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_browser_runs_the_pages_own_script_alone(page, scheme):
    with browser_page(page, scheme=scheme) as shown:
        assert shown.evaluate("document.body.dataset.ran") == "yes"
        assert shown.title() == EVIL
        assert shown.locator("figure img").evaluate("image => image.naturalWidth") == 160
