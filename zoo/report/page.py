"""One self-contained HTML page: no file beside it, nothing from a network, light, dark and print.

Templates of jinja2 lie in `templates/`; each extends `base.html.j2`, which has the styles, and
imports `parts.html.j2`, which has tables and galleries. All values are escaped, since names of
classes and files are the user's. The page's policy lets the browser run the one script that the
template brought, by its digest, so that nothing else in the page can run.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from zoo.report.pictures import save_text

if TYPE_CHECKING:
    import jinja2

SIDE = 160  # pixels of a small picture in a page
QUALITY = 75  # of its JPEG
POLICY = "POLICY-OF-THE-PAGE"  # what base.html.j2 has in the place of the policy


def write_page(path: Path, template: str, **values: object) -> None:
    """Write a page made from a template, `report.html.j2`, and values. Whole or not at all."""
    save_text(_render(template, **values), path)


def _render(name: str, **values: object) -> str:
    """Return the page as text. Raises jinja2's UndefinedError where a value is missing."""
    return _with_policy(template(name).render(**values))


@functools.cache
def template(name: str) -> jinja2.Template:
    """Return a template, compiled, and with it the two that all of them need."""
    templates = _templates()
    for each in ("base.html.j2", "parts.html.j2"):
        templates.get_template(each)
    return templates.get_template(name)


@functools.cache
def _templates() -> jinja2.Environment:
    """Return where the templates are."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("zoo.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _with_policy(page: str) -> str:
    """Return the page with the digests of its own scripts as the only ones that may run."""
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
        f"form-action 'none'; script-src {allowed}"
    )
    return page.replace(POLICY, policy, 1)


def small_picture(image: Image.Image) -> str:
    """Return a picture made to fit SIDE x SIDE pixels as a `data:` address, a JPEG or a PNG.

    A small drawing keeps its pixels: what is no larger than 64 x 64 becomes a PNG.
    """
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    if max(image.size) <= 64:
        small.save(file, "PNG", optimize=True)
        kind = "png"
    else:
        small.save(file, "JPEG", quality=QUALITY, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
