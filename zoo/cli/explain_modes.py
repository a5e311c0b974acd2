"""What `zoo explain` can draw: a table of modes, each a function that yields cards.

Here: the flags, what modes share, and those that ask why a class is the answer; the others are in
explain_units.py. A mode gets the flags, the photos and the screen, opens the network in its own
way, and yields a `Card` for each photo, or for the network where it needs none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli.console import Screen, talk
from zoo.cli.options import NETWORK, argument, flag, force, network, output, setting, shared
from zoo.errors import ImageError

if TYPE_CHECKING:
    from zoo.data.preprocess import Pixels
    from zoo.explain.answers import Seen
    from zoo.network import Network
    from zoo.predict.inputs import Input
    from zoo.predict.rows import Predictor
    from zoo.report.cards import Card, Panel

WHAT = "What is drawn"
BATCH = 16  # photos at a time


@dataclass(frozen=True)
class Flags:
    model: str = network("A run folder, a model of `zoo list`, or an .onnx file (--occlusion).")
    images: list[str] | None = argument(
        "Photos: each a picture, a folder, a 'glob', list.txt or - (stdin).", None
    )
    classes: list[str] | None = flag(
        "Class to explain, again for another. Default: the answer.", WHAT, names=("--class",)
    )
    stage: str | None = flag(
        "Stage at which Grad-CAM looks, as layer3. Default: the last whose output has places.", WHAT
    )
    occlusion: bool = flag("Cover each part of a photo: where does the class go?", WHAT, False)
    filters: bool = flag("Draw the kernels of the first layer; no photo is needed.", WHAT, False)
    maps: str | None = flag("Draw what the units of this stage make of a photo.", WHAT)
    count: int | None = flag(
        "Units of --maps or patches of --match, the strongest first. Default: 48, 9.", WHAT, min=1
    )
    receptive: str | None = flag(
        "Draw how much of the picture the unit in the middle of this stage sees.", WHAT
    )
    match: str | None = flag(
        "Draw the patches of the photos that excite a unit most, as conv2:7; of a STAGE alone for "
        "the units whose answers differ most.",
        WHAT,
    )
    dream: str | None = flag(
        "Draw the picture that excites a unit most, as inc4c:10, or fc:CLASS; no photo is needed.",
        WHAT,
    )
    steps: bool = flag(
        "Draw each number on the way of a photo through a small network, as PNG and SVG; without "
        "photos those of a run's val.", WHAT, False,
    )  # fmt: skip
    landscape: bool = flag(
        "Draw the loss of a run around its weights, along two random directions; no photo is "
        "needed.", WHAT, False,
    )  # fmt: skip
    weights: str | None = shared("weights")
    trust_changed: bool = shared("trust_changed")
    device: str = setting("device")
    seed: int = flag(
        "Seed of --dream, of --weights none, and of the directions of --landscape.", NETWORK, 0
    )
    output: Path = output("Folder to write to, or FILE.png for one picture.", Path("explained"))
    force: bool = force()
    json: bool = shared("json")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a mode works on."""

    flags: Flags
    photos: Sequence[Input]
    screen: Screen

    def network(self) -> Network:
        """Return the network, where it runs, in eval mode; says which it is."""
        from zoo.predict.predictor import open_network

        net, place, about = open_network(self.flags.model, self._how(), self.screen.bytes)
        talk(about)
        net.chain.eval().to(place.torch)
        return net

    def predictor(self) -> Predictor:
        """Return what answers, be it a network or an exported file; says which it is."""
        from zoo.predict.predictor import open_predictor

        ours = open_predictor(self.flags.model, self._how(), (), self.screen.bytes)
        talk(ours.about)
        return ours

    def _how(self) -> Any:
        from zoo.predict.predictor import Opening

        flags = self.flags
        return Opening(flags.weights, flags.device, seed=flags.seed, trusts=flags.trust_changed)


@dataclass(frozen=True, slots=True)
class Mode:
    """A thing that can be drawn. flag: what asks for it, nothing for the default.

    photos: whether it needs any. takes: further flags that it has a use for. files: whether an
    exported file will do.
    """

    flag: str
    name: str
    cards: Callable[[Asked], Iterator[Card]]
    photos: bool = True
    takes: tuple[str, ...] = ()
    files: bool = False


def _gradcam(asked: Asked) -> Iterator[Card]:
    from zoo.engine.pipeline import batched
    from zoo.explain import answers, places, saliency

    net = asked.network()
    saliency.must_have_classes(net)
    wanted = answers.numbers(asked.flags.classes, net.classes, net.spec.num_classes)
    tapped = places.tap(net, asked.flags.stage)
    grid = tapped.grid
    talk(f"Grad-CAM of {grid.height} x {grid.width} places, what leaves {tapped.stage}")
    for some in batched(asked.photos, BATCH):
        found = answers.by_gradcam(net, tapped, [item.source for item in some], wanted)
        for item, seen in zip(some, found, strict=True):
            yield _map_card(item, seen, net.classes)


def _map_card(item: Input, seen: Seen, names: Sequence[str]) -> Card:
    """Return a photo with the map of each class beside it, or why it cannot be read."""
    from zoo.report.cards import Panel, enlarged, overlay

    if isinstance(seen, ImageError):
        return _error_card(item, str(seen))
    pixels, told = seen
    panels: list[Panel] = [Panel(enlarged(pixels), "as the network sees it")]
    records = []
    for number, heat in told.maps:
        name = names[number] if names else f"class {number}"
        probability = float(told.probabilities[number])
        peak = divmod(int(heat.argmax()), heat.shape[1]) if heat.any() else None
        said = f"{name} {100 * probability:.1f} %" + ("" if peak else ": no place speaks for it")
        panels.append(Panel(overlay(pixels, heat), said))
        where = {"x": peak[1], "y": peak[0]} if peak else None
        records.append({"class": name, "probability": probability, "peak": where})
    title = ", ".join(panel.text for panel in panels[1:])
    return photo_card(item, title, tuple(panels), {"classes": records})


def _occlusion(asked: Asked) -> Iterator[Card]:
    from zoo.explain import answers

    ours = asked.predictor()
    wanted = answers.numbers(asked.flags.classes, ours.classes, len(ours.classes))
    for item in asked.photos:
        seen = answers.by_occlusion(item.source, ours.preprocess, ours.of_views, wanted)
        yield _map_card(item, seen, ours.classes)


MODES = (
    Mode("", "Grad-CAM", _gradcam, takes=("classes", "stage")),
    Mode("occlusion", "occlusion", _occlusion, takes=("classes",), files=True),
)


# What modes share.


def each_view(asked: Asked, net: Network) -> Iterator[tuple[Input, Pixels | Card]]:
    """Yield what the network sees of each photo, or the card that says why it sees nothing."""
    from zoo.data.views import plain_view

    for item in asked.photos:
        try:
            yield item, plain_view(item.source, net.preprocess)
        except ImageError as error:
            yield item, _error_card(item, str(error))


def photo_card(
    item: Input, title: str, panels: tuple[Panel, ...], record: dict[str, object]
) -> Card:
    """Return a card that is called what its photo is, without folders that all of them share."""
    from zoo.report.cards import Card

    name = os.path.basename(item.shown) if os.path.isabs(item.shown) else item.shown
    stem = name if "#" in name else os.path.splitext(name)[0]
    return Card(stem, f"{name}: {title}", panels, record={"path": item.shown, **record})


def _error_card(item: Input, reason: str) -> Card:
    from zoo.report.cards import Card

    return Card(item.shown, item.shown, error=reason, record={"path": item.shown})
