"""Cards: pictures side by side with a line under each, written one by one and on a sheet of all.

Names of files and classes are a user's: what the typeface has no letter for is a ?.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from zoo.data.preprocess import Pixels, Values
from zoo.errors import UsageError
from zoo.report.pictures import font, own_name, picture_of, save, save_text, shortened, times

SIDE = 224  # pixels that a picture of a card has at least: smaller ones are enlarged
GAP, TEXT, SMALL = 8, 15, 12  # pixels between pictures, and of letters
PAPER, INK, SOFT, WRONG = "white", "black", "#595959", "#a40000"
ON_SHEET, ACROSS = 100, 1440  # cards, and about as many pixels in a row
STRONG = 0.62  # of the colour over the photo where the map is 1


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture of a card with the line under it."""

    image: Image.Image
    text: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """Pictures in a row with a title, or why there are none. name: of the file, without suffix.

    record: the same in numbers, for --json. svg: the same as a drawing, where it is one.
    """

    name: str
    title: str
    panels: tuple[Panel, ...] = ()
    error: str = ""
    record: dict[str, object] = field(default_factory=dict)
    svg: str = ""


def enlarged(pixels: Pixels, side: int = SIDE) -> Image.Image:
    """Return H x W x C as a picture, small ones enlarged by whole numbers and nearest neighbour."""
    image = picture_of(pixels).convert("RGB")
    return times(image, -(-side // max(image.size)) if max(image.size) <= side / 2 else 1)


def overlay(pixels: Pixels, heat: Values) -> Image.Image:
    """Return a photo H x W x C with a map H x W in 0..1 over it, in colours of even steps.

    The photo is grey under it, as bright as it was, and the colour is the stronger the higher the
    map: where the map is 0 the photo alone is seen.
    """
    photo = enlarged(pixels)
    whole = Image.fromarray(np.clip(heat, 0, 1).astype(np.float32)).resize(
        photo.size, Image.Resampling.BILINEAR
    )
    values = np.asarray(whole)
    grey = np.asarray(photo.convert("L").convert("RGB"), np.float32)
    colours = 255 * colour_map("inferno")[(255 * values).astype(np.uint8)]
    weight = (STRONG * np.sqrt(values))[..., None]
    return Image.fromarray((grey * (1 - weight) + colours * weight).round().astype(np.uint8))


@lru_cache(maxsize=4)
def colour_map(name: str) -> Values:
    """Return 256 x 3 values in 0..1 of one of matplotlib's colour maps."""
    import matplotlib

    return matplotlib.colormaps[name](np.arange(256))[:, :3].astype(np.float32)


def coloured(values: Values, name: str = "viridis") -> Pixels:
    """Return H x W values in 0..1 as colours, uint8 H x W x 3."""
    steps = (255 * np.clip(values, 0, 1)).astype(np.uint8)
    return (255 * colour_map(name)[steps]).round().astype(np.uint8)


def drawn(card: Card) -> Image.Image:
    """Return a card as a picture: the title above, a line under each panel."""
    if card.svg and len(card.panels) == 1:
        return card.panels[0].image.copy()  # a drawing has its title in it
    images = [panel.image for panel in card.panels]
    width = GAP + sum(image.width + GAP for image in images) if images else 2 * SIDE + 3 * GAP
    high = max((image.height for image in images), default=SIDE)
    under = SMALL + GAP if any(panel.text for panel in card.panels) else 0
    sheet = Image.new("RGB", (width, 2 * GAP + TEXT + high + under + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    top, left = 2 * GAP + TEXT, GAP
    pen.text((GAP, GAP // 2), fitting(card.title, TEXT, width - 2 * GAP), INK, font(TEXT))
    for panel in card.panels:
        sheet.paste(panel.image, (left, top))
        line = fitting(panel.text, SMALL, panel.image.width)
        pen.text((left, top + panel.image.height + 2), line, SOFT, font(SMALL))
        left += panel.image.width + GAP
    if card.error:
        pen.text((GAP, top), fitting(card.error, SMALL, width - 2 * GAP), WRONG, font(SMALL))
    return sheet


def fitting(text: str, size: int, width: int) -> str:
    """Return as much of a line as fits into so many pixels."""
    line = "".join(c if c.isprintable() and ord(c) < 0x2100 else "?" for c in text)
    return shortened(line, font(size), width)


# Where they go.


def check(place: Path, photos: Sequence[Path] = ()) -> None:
    """Raises UsageError for a place that is neither a folder nor a PNG, or that holds the photos.

    Nothing is written beside a user's photos.
    """
    if place.suffix.lower() in (".jpg", ".jpeg", ".gif", ".webp", ".pdf", ".html"):
        raise UsageError(f"{place}: pictures are written as PNG", "give FILE.png or a folder")
    if is_file(place) and place.is_dir():
        raise UsageError(f"{place} is a folder", "give another name")
    if not is_file(place) and place.exists() and not place.is_dir():
        raise UsageError(f"{place} is a file and no folder", "give FILE.png or a folder")
    if (place / "run.json").exists():
        raise UsageError(f"{place} is a run folder", f"give another one: -o {place}-explained")
    folder = place.parent if is_file(place) else place
    for photo in photos:
        same = photo == place if is_file(place) else photo.parent.resolve() == folder.resolve()
        if same:
            raise UsageError(f"{place} has the photos", "give another place with -o")


def is_file(place: Path) -> bool:
    """Return whether all goes into one file, and not into a folder."""
    return place.suffix.lower() in (".png", ".svg")


def write(cards: Iterable[Card], place: Path) -> Iterator[tuple[Card, str]]:
    """Write cards as they come, and a sheet of several; yield each with its file, or nothing.

    place: a folder, made where it is not there, or one file, which has the card or the sheet.
    """
    small: list[Image.Image] = []
    alone: Image.Image | None = None
    taken = {"sheet"}
    many = 0
    for card in cards:
        picture = drawn(card)
        file = ""
        if not is_file(place):
            if not card.error:
                file = f"{own_name(card.name, taken)}.png"
                save(picture, place / file)
                if card.svg:
                    save_text(card.svg, (place / file).with_suffix(".svg"))
        elif place.suffix.lower() == ".svg" and card.svg:
            save_text(card.svg, place)
        many += 1
        alone = picture if many == 1 else None
        if many <= ON_SHEET:
            picture.thumbnail((ACROSS, ACROSS))
            small.append(picture)
        yield card, file
    if is_file(place) and place.suffix.lower() == ".png" and small:
        save(alone or _sheet(small), place)
    elif not is_file(place) and many > 1:
        save(_sheet(small), place / "sheet.png")


def _sheet(pictures: list[Image.Image]) -> Image.Image:
    """Return cards in rows, each as wide as the widest and as high as its row."""
    wide = max(picture.width for picture in pictures)
    across = max(1, min(len(pictures), ACROSS // wide))
    rows = [pictures[at : at + across] for at in range(0, len(pictures), across)]
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new("RGB", (across * wide, sum(heights)), PAPER)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for number, picture in enumerate(row):
            sheet.paste(picture, (number * wide, top))
        top += height
    return sheet
