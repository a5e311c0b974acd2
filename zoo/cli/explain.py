"""zoo explain: pictures of what a network looks at, and of what its parts answer to."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import catalog
from zoo.cli import explain_modes, explain_steps, explain_units, inline
from zoo.cli.console import Screen, out, print_json, talk
from zoo.cli.explain_modes import Asked, Flags, Mode
from zoo.cli.options import options
from zoo.errors import DataError, UsageError
from zoo.text import count, one_line

if TYPE_CHECKING:
    from zoo.predict.inputs import Input
    from zoo.report.cards import Card

MODES = (*explain_modes.MODES, *explain_units.MODES, *explain_steps.MODES)
MOST = 1000  # pictures: a file each


@options
def command(flags: Flags) -> int:
    """Draw which part of each photo speaks for its class, by Grad-CAM, or what a flag asks for.

    As `zoo explain runs/a photos/val/ants -o why`: a PNG for each photo, the photo as the network
    sees it beside the map, and sheet.png with all of them. A photo that cannot be read costs its
    own picture only.
    """
    from zoo.report import cards

    mode = _mode(flags)
    _check(flags, mode)
    found = _found(flags) if flags.images else []
    if not found and mode.photos:
        raise UsageError(
            "no photo to explain",
            f"name some: `zoo explain {shlex.quote(flags.model)} photos/val/ants`",
        )
    cards.check(flags.output, [Path(one.file) for one in found])
    with Screen() as screen:
        written = _write(flags, mode.cards(Asked(flags, found, screen)), len(found), screen)
    records, reasons = [card.record for card in written], Counter(c.error for c in written)
    del reasons[""]
    if flags.json:
        print_json({"model": flags.model, "what": mode.name, "pictures": records})
    else:
        _say(flags, written, reasons)
    if reasons and reasons.total() == len(written):
        raise DataError("no photo could be read", "`zoo explain` takes what `zoo predict` takes")
    return 0


def _mode(flags: Flags) -> Mode:
    """Return what is to be drawn. Raises UsageError where that is two things."""
    asked = [mode for mode in MODES if mode.flag and getattr(flags, mode.flag)]
    if len(asked) > 1:
        words = " and ".join(f"--{mode.flag}" for mode in asked)
        raise UsageError(f"{words}: one thing is drawn at a time", "leave all but one out")
    return asked[0] if asked else MODES[0]


def _check(flags: Flags, mode: Mode) -> None:
    """Raises UsageError for flags that this mode has no use for, and for a file without stages."""
    given = {"classes": "--class", "stage": "--stage", "count": "--count"}
    for name, word in given.items():
        if getattr(flags, name) is not None and name not in mode.takes:
            users = [
                f"--{one.flag}" if one.flag else one.name for one in MODES if name in one.takes
            ]
            this = f"--{mode.flag}" if mode.flag else mode.name
            raise UsageError(
                f"{word} with {this}, which has no use for it", f"it is for {', '.join(users)}"
            )
    if catalog.is_exported(flags.model) and not mode.files:
        raise UsageError(
            f"{flags.model} is an exported file, which has no stages: {mode.name} needs a run or a "
            "model",
            f"name the run that it was exported from; --occlusion takes a file: `zoo explain "
            f"{flags.model} PHOTO --occlusion`",
        )


def _found(flags: Flags) -> list[Input]:
    """Return the photos that were named. Raises DataError."""
    from zoo.predict import inputs

    found: list[Input] = []
    for words in flags.images or []:
        some = inputs.find(words, sys.stdin)
        for one in some.each:
            found.append(one)
            if len(found) > MOST:
                raise DataError(
                    f"more than {MOST:,} photos: each would be a file", "name fewer of them"
                )
    return found


def _write(flags: Flags, drawn: Iterator[Card], total: int, screen: Screen) -> list[Card]:
    """Write the pictures as they come; return them without their pixels, with their files."""
    from zoo.report import cards

    written = []
    for card, file in cards.write(drawn, flags.output):
        place = str(flags.output / file) if file else None
        if cards.is_file(flags.output):
            place = str(flags.output)
        record = {"status": "error" if card.error else "ok"} | card.record
        record |= {"error": card.error} if card.error else {"picture": place}
        written.append(replace(card, panels=(), svg="", record=record))
        screen.progress("photos", len(written), total or None)
    return written


def _say(flags: Flags, written: list[Card], reasons: Counter[str]) -> None:
    """Print a line for each picture on stdout, and where they are."""
    for card in written:
        out(one_line(card.title + (f": {card.error}" if card.error else "")))
    errors = f", {count(reasons.total(), 'error')}" if reasons else ""
    talk(f"{count(len(written) - reasons.total(), 'picture')} in {flags.output}{errors}")
    for reason, many in reasons.most_common(3):
        talk(f"  {count(many, 'error')}: {reason}")
    drawn = [str(card.record["picture"]) for card in written if card.record.get("picture")]
    sheet = flags.output / "sheet.png"
    if drawn:
        inline.show(sheet if len(drawn) > 1 and sheet.is_file() else Path(drawn[0]))
