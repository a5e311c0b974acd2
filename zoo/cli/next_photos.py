"""zoo next: photos of a folder to label next."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.console import Screen, talk
from zoo.cli.options import argument, flag, force, options, pictures, setting, shared
from zoo.cli.tally import Tally
from zoo.errors import ImageError
from zoo.text import as_data, count, csv_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.predict import inputs
    from zoo.predict.next_photos import Pick
    from zoo.predict.policy import Unknown

COLUMNS = ("path", "predicted", "probability", "why")


@dataclass(frozen=True)
class Flags:
    model: str = argument("A run folder.")
    inputs: list[str] = pictures()
    count: int = flag("How many photos.", default=50, min=1)
    sheet: Path | None = flag("PNG to write: small pictures of them with their answers.")
    links: Path | None = flag("Folder to make, with a link to each of them.")
    force: bool = force()
    trust_changed: bool = shared("trust_changed")
    csv_safe: bool = shared("csv_safe")
    device: str = setting("device")


@options
def command(flags: Flags) -> None:
    """Name photos to label next: those that a network is unsure of, and no two alike.

    A CSV on stdout, the least sure one first. Photos that the run was trained or validated on
    are left out, known by path or content.
    """
    from zoo.predict import inputs, policy, sorting, writers

    policy.run_of(flags.model, f"--count {flags.count}")
    writers.check(flags.sheet, (".png",), "--sheet")
    if flags.links is not None:
        for one in flags.inputs:
            sorting.check(flags.links, one, "--links")
    found = inputs.find_all(flags.inputs, sys.stdin)
    tally = Tally()
    with Screen() as screen:
        picks = _picks(flags, found, tally, screen)
    tally.show(" ".join(flags.inputs), found, None)
    screened = as_data(sys.stdout)
    for cells in (COLUMNS, *_rows(picks)):
        print(csv_line(cells, safe=flags.csv_safe, screen=screened), end="")
    if len(picks) < flags.count:
        talk(f"{count(len(picks), 'photo')}: there are no more that differ")
    if flags.sheet is not None:
        _draw(flags.sheet, picks)
    if flags.links is not None:
        many = sorting.fill(flags.links, [each.file for each in picks])
        talk(f"{count(many, 'link')} in {flags.links}")


def _picks(flags: Flags, found: inputs.Inputs, tally: Tally, screen: Screen) -> list[Pick]:
    from zoo.predict import evaluation_set, next_photos
    from zoo.predict.predictor import Opening

    how = Opening(device=flags.device, trusts=flags.trust_changed)
    ours = next_photos.opened(flags.model, how)
    talk(f"{ours.about}; {count(len(ours.classes), 'class', 'classes')}")
    items = list(found.each)
    new = evaluation_set.new_to(flags.model, items)
    if len(new) < len(items):
        talk(f"{count(len(items) - len(new), 'photo')} left out, which the run knows already")
    rows = tally.counting(ours.rows(new, len(ours.classes)), len(new), screen)
    return next_photos.picks(rows, flags.count, _unknown(flags.model))


def _unknown(model: str) -> Unknown | None:
    """Return what tells unknown photos, where the run has it and enough val photos."""
    from zoo.errors import DataError, UsageError
    from zoo.predict import policy

    try:
        return policy.unknown(policy.run_of(model, "--unknown"), policy.RATE)
    except (UsageError, DataError):
        return None


def _rows(picks: Sequence[Pick]) -> list[tuple[str, str, str, str]]:
    return [(each.path, each.predicted, f"{each.probability:.6g}", each.why) for each in picks]


def _draw(place: Path, picks: Sequence[Pick]) -> None:
    """Write the contact sheet, of as many photos as it holds."""
    from zoo.data.decode import decode, read_bytes
    from zoo.report import sheet

    tiles = []
    for each in picks[: sheet.limit()]:
        try:
            image = sheet.tile(decode(read_bytes(each.file)))
        except ImageError:  # it was there a moment ago
            image = None
        tiles.append((image, f"{each.predicted} {each.probability:.2f}", Path(each.path).name))
    sheet.draw(place, tiles)
    talk(f"the contact sheet of {count(len(tiles), 'photo')} is in {place}")
