"""What `zoo explain` draws of the parts of a network: kernels, maps, fields, patches and dreams.

They are modes as those of explain_modes.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from zoo.cli.console import talk
from zoo.cli.explain_modes import Asked, Mode, each_view, photo_card
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.data.preprocess import Pixels
    from zoo.report.cards import Card

UNITS, PATCHES = 48, 9


def _filters(asked: Asked) -> Iterator[Card]:
    from zoo.explain.filters import kernels
    from zoo.report import filters
    from zoo.report.cards import Card

    net = asked.network()
    found = kernels(net)
    many, high, wide, depth = found.values.shape
    title = f"{net.spec.name}: {many} kernels of {found.layer}, {high} x {wide} x {depth}"
    record = {"layer": found.layer, "kernels": many, "height": high, "width": wide}
    yield Card("filters", title, (filters.kernels(found.values, found.signed),), record=record)


def _feature_maps(asked: Asked) -> Iterator[Card]:
    from zoo.explain.filters import feature_maps
    from zoo.report import filters
    from zoo.report.cards import Card

    net, stage = asked.network(), str(asked.flags.maps)
    for item, pixels in each_view(asked, net):
        if isinstance(pixels, Card):
            yield pixels
            continue
        found = feature_maps(net, stage, pixels[None])
        units, high, wide = found.values.shape[1:]
        best = found.strongest(0, asked.flags.count or UNITS)
        title = f"{stage}, {len(best)} of {units} units, {high} x {wide}"
        panels = filters.maps(pixels, found.values[0], best)
        tops = [{"unit": one, "highest": float(found.values[0, one].max())} for one in best]
        yield photo_card(item, title, panels, {"stage": stage, "units": tops})


def _receptive(asked: Asked) -> Iterator[Card]:
    from zoo.explain.receptive import field_of
    from zoo.report import filters
    from zoo.report.cards import Card

    net, stage = asked.network(), str(asked.flags.receptive)
    field = field_of(net, stage)
    across, down = field.size
    size = net.preprocess
    title = f"a unit of {stage} sees {across} x {down} of {size.width} x {size.height} pixels"
    talk(title + (", all of the picture" if field.whole else ""))
    record = {"stage": stage, "width": across, "height": down, "box": list(field.box)}
    for item, pixels in each_view(asked, net):
        if isinstance(pixels, Card):
            yield pixels
        else:
            panels = filters.field(pixels, field.box, field.strength)
            yield photo_card(item, stage, panels, record)


def _match(asked: Asked) -> Iterator[Card]:
    from zoo.data.views import plain_view
    from zoo.explain.filters import unit_of
    from zoo.explain.matches import matches
    from zoo.report import filters
    from zoo.report.cards import Card

    net = asked.network()
    stage, unit = unit_of(net, str(asked.flags.match))
    errors: list[Card] = []

    def read() -> Iterator[tuple[str, Pixels]]:
        for done, (item, pixels) in enumerate(each_view(asked, net), 1):
            if isinstance(pixels, Card):
                errors.append(pixels)
            else:
                yield item.file, pixels
            asked.screen.progress("photos", done, len(asked.photos))

    found = matches(net, stage, unit, read(), asked.flags.count or PATCHES)
    yield from errors
    side, seen = found.side, " x ".join(map(str, found.seen))
    for one, best in found.best.items():
        tiles = []
        for match in best:
            pixels = plain_view(match.file, net.preprocess)
            patch = pixels[match.upper : match.upper + side, match.left : match.left + side]
            tiles.append((patch, f"{match.answer:.3g}"))
        title = f"{stage}:{one}, the {len(tiles)} patches that excite it most"
        said = f"below each its answer; a unit sees {seen} pixels"
        rows = [
            {"file": m.file, "left": m.left, "upper": m.upper, "answer": m.answer} for m in best
        ]
        record = {"stage": stage, "unit": one, "side": side, "patches": rows}
        if tiles:
            yield Card(f"{stage}-{one}", title, (filters.patches(tiles, said),), record=record)


def _dream(asked: Asked) -> Iterator[Card]:
    from zoo.explain.dream import dream
    from zoo.explain.filters import unit_of
    from zoo.report.cards import Card, Panel, enlarged

    net, words = asked.network(), str(asked.flags.dream)
    stage, unit = unit_of(net, words)
    if unit is None:
        raise UsageError(f"--dream {words}: of which unit?", f"give one, as {stage}:0")
    progress = partial(asked.screen.progress, "steps")
    found = dream(net, stage, unit, asked.flags.seed, progress)
    name = f"{stage}:{unit}"
    if net.classes and words.partition(":")[0] == net.spec.head and unit < len(net.classes):
        name += f", {net.classes[unit]}"
    said = f"answer {found.after:.3g}; to grey {found.before:.3g}"
    record = {"stage": stage, "unit": unit, "grey": found.before, "dream": found.after}
    panels = (Panel(enlarged(found.pixels), said),)
    yield Card(f"{stage}-{unit}", f"dream of {name}", panels, record=record)


MODES = (
    Mode("filters", "filters", _filters, photos=False),
    Mode("maps", "feature maps", _feature_maps, takes=("count",)),
    Mode("receptive", "receptive field", _receptive),
    Mode("match", "patches", _match, takes=("count",)),
    Mode("dream", "dream", _dream, photos=False),
)
