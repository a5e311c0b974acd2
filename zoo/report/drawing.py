"""Drawings of boxes, lines, words and small pictures, as SVG and as a picture of the same.

Colours are `#rrggbb`, or one of ROLES: those are light or dark in the SVG, as the reader has it,
and light on paper. All words are escaped: names of classes and stages may be a user's.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from PIL import Image, ImageDraw

from zoo.data.preprocess import Pixels
from zoo.report.pictures import font, shortened

# role: on light, on dark
ROLES = {
    "paper": ("#ffffff", "#16181c"),
    "ink": ("#1a1a1a", "#ececec"),
    "soft": ("#5c5c5c", "#a8a8a8"),
    "line": ("#b8b8b8", "#565a61"),
    "box": ("#f6f6f6", "#22252b"),
    "cold": ("#dde8f5", "#22354d"),
    "warm": ("#fbe6d4", "#54331a"),
    "mark": ("#b3400e", "#ff9a5c"),
}
_ANCHORS = {"start": "la", "middle": "ma", "end": "ra"}
_UP = 0.36  # of the size, from the middle of a line of text to its baseline


@dataclass(slots=True)
class Drawing:
    """Shapes in order, from below to above; places are in pixels from the top left."""

    width: float
    height: float
    title: str
    shapes: list[_Box | _Line | _Words | _Bitmap] = field(default_factory=list)

    def box(self, place: tuple[float, float, float, float], fill: str, edge: str = "") -> None:
        """Add a rectangle: x, y, width, height."""
        self.shapes.append(_Box(*place, fill, edge))

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        self.shapes.append(_Line(*start, *end, colour))

    def words(
        self, place: tuple[float, float], text: str, size: float = 11, colour: str = "ink",
        anchor: str = "start", bold: bool = False,
    ) -> None:  # fmt: skip
        """Add a line of text whose middle is at this height."""
        self.shapes.append(_Words(*place, printed(text), size, colour, anchor, bold))

    def bitmap(self, place: tuple[float, float], scale: int, pixels: Pixels) -> None:
        """Add H x W x 3 pixels, each a square of this side."""
        self.shapes.append(_Bitmap(*place, scale, pixels))

    def svg(self) -> str:
        style = "".join(f".{role}{{fill:{light}}}" for role, (light, _) in ROLES.items())
        style += "".join(f".{role}-edge{{stroke:{light}}}" for role, (light, _) in ROLES.items())
        dark = "".join(
            f".{role}{{fill:{shade}}}.{role}-edge{{stroke:{shade}}}"
            for role, (_, shade) in ROLES.items()
        )
        wide, high = _number(self.width), _number(self.height)
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" '
            f'viewBox="0 0 {wide} {high}" role="img" font-family="Helvetica, Arial, '
            'DejaVu Sans, sans-serif">',
            f"<title>{escape(printed(self.title))}</title>",
            f"<style>{style}@media screen and (prefers-color-scheme:dark){{{dark}}}"
            "image{image-rendering:pixelated}</style>",
            f'<rect width="{wide}" height="{high}" class="paper"/>',
            *(shape.svg() for shape in self.shapes),
            "</svg>",
        ]
        return "\n".join(lines) + "\n"

    def picture(self, scale: int = 2) -> Image.Image:
        """Return the drawing on white, with so many pixels for each."""
        size = (round(self.width * scale), round(self.height * scale))
        image = Image.new("RGB", size, ROLES["paper"][0])
        pen = ImageDraw.Draw(image)
        for shape in self.shapes:
            shape.draw(image, pen, scale)
        return image


@dataclass(frozen=True, slots=True)
class _Box:
    x: float
    y: float
    width: float
    height: float
    fill: str
    edge: str

    def svg(self) -> str:
        place = _numbers(self, "x", "y", "width", "height")
        return f"<rect {place} {_styled(self.fill, self.edge)}/>"

    def draw(self, _: Image.Image, pen: ImageDraw.ImageDraw, scale: int) -> None:
        corners = (self.x, self.y, self.x + self.width, self.y + self.height)
        edge = _light(self.edge) if self.edge else None
        left, top, right, bottom = (round(each * scale) for each in corners)
        if right > left and bottom > top:
            inside = (left, top, right - 1 + bool(edge), bottom - 1 + bool(edge))
            pen.rectangle(inside, _light(self.fill), edge)


@dataclass(frozen=True, slots=True)
class _Line:
    x1: float
    y1: float
    x2: float
    y2: float
    colour: str

    def svg(self) -> str:
        place = _numbers(self, "x1", "y1", "x2", "y2")
        return f"<line {place} {_styled('', self.colour)}/>"

    def draw(self, _: Image.Image, pen: ImageDraw.ImageDraw, scale: int) -> None:
        ends = [round(each * scale) for each in (self.x1, self.y1, self.x2, self.y2)]
        pen.line(ends, _light(self.colour), scale)


@dataclass(frozen=True, slots=True)
class _Words:
    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: str
    bold: bool

    def svg(self) -> str:
        bold = ' font-weight="bold"' if self.bold else ""
        anchor = "" if self.anchor == "start" else f' text-anchor="{self.anchor}"'
        return (
            f'<text x="{_number(self.x)}" y="{_number(self.y + _UP * self.size)}" '
            f'font-size="{_number(self.size)}"{anchor}{bold} {_styled(self.colour)}>'
            f"{escape(self.text)}</text>"
        )

    def draw(self, _: Image.Image, pen: ImageDraw.ImageDraw, scale: int) -> None:
        place = (self.x * scale, (self.y + _UP * self.size) * scale)
        anchor = _ANCHORS[self.anchor][0] + "s"
        typeface = font(self.size * scale, self.bold)
        pen.text(place, self.text, _light(self.colour), typeface, anchor)


@dataclass(frozen=True, slots=True)
class _Bitmap:
    x: float
    y: float
    scale: int
    pixels: Pixels

    def svg(self) -> str:
        file = io.BytesIO()
        Image.fromarray(self.pixels).save(file, "PNG", optimize=True)
        address = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        high, wide = self.pixels.shape[:2]
        return (
            f'<image x="{_number(self.x)}" y="{_number(self.y)}" width="{wide * self.scale}" '
            f'height="{high * self.scale}" preserveAspectRatio="none" href={quoteattr(address)}/>'
        )

    def draw(self, image: Image.Image, _: ImageDraw.ImageDraw, scale: int) -> None:
        high, wide = (length * self.scale * scale for length in self.pixels.shape[:2])
        small = Image.fromarray(self.pixels).resize((wide, high), Image.Resampling.NEAREST)
        image.paste(small, (round(self.x * scale), round(self.y * scale)))


def fitting(text: str, size: float, width: float, bold: bool = False) -> str:
    """Return as much of a line as fits into so many pixels."""
    return shortened(printed(text), font(size, bold), width)


def printed(text: str) -> str:
    """Return text without what a page cannot have: control characters, halves of letters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _numbers(shape: object, *names: str) -> str:
    """Return these fields of a shape as attributes."""
    return " ".join(f'{name}="{_number(getattr(shape, name))}"' for name in names)


def _styled(fill: str, edge: str = "") -> str:
    """Return the attributes of a shape: classes of roles, else plain colours."""
    roles = [role for role in (fill, f"{edge}-edge") if role.removesuffix("-edge") in ROLES]
    said = f'class="{" ".join(roles)}"' if roles else ""
    if fill and fill not in ROLES:
        said += f' fill="{fill}"'
    if edge and edge not in ROLES:
        said += f' stroke="{edge}"'
    return said.strip()


def _light(colour: str) -> str:
    return ROLES[colour][0] if colour in ROLES else colour


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
