"""zoo reconstruct: what an autoencoder gives back, beside what it was given; or out of codes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.console import Screen, out, print_json, talk
from zoo.cli.options import argument, flag, options, output, setting, shared
from zoo.cli.tally import show_left_out
from zoo.errors import DataError
from zoo.text import count

if TYPE_CHECKING:
    from zoo.predict import inputs
    from zoo.predict.reconstruct import Reconstructor


@dataclass(frozen=True)
class Flags:
    run: str = argument("A finished run of an autoencoder.")
    inputs: str = argument(
        "Folder, picture, 'glob', list.txt with a path a line, or - (stdin); or codes of "
        "`zoo embed`: codes.parquet, .csv, .npz or .npy."
    )
    trust_changed: bool = shared("trust_changed")
    device: str = setting("device")
    output: Path = output("New folder to write to.", Path("pairs"))
    count: int | None = flag(
        "Pairs to draw, evenly over the pictures; 0: all. Default: 64, and every code.", min=0
    )
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Draw pictures beside what comes back, and write the error of each to errors.csv.

    On the left the picture as the network sees it, on the right what it gives back; both small
    ones enlarged by nearest neighbour. sheet.png has all pairs. Codes are decoded into pictures,
    pixel by pixel, which pictures.csv lists.
    """
    from zoo.predict import codes, inputs
    from zoo.predict.reconstruct import open_reconstructor
    from zoo.report import pairs

    pairs.refuse(flags.output)
    if codes.holds(flags.inputs):
        _decode(flags)
        return
    found = inputs.find(flags.inputs, sys.stdin)
    with Screen() as screen:
        ours = open_reconstructor(flags.run, flags.device, trusts=flags.trust_changed)
        talk(ours.about)
        drawn = _draw(ours, found, flags, screen)
    talk(
        f"mean MSE {drawn['mse']:.6f}, MAE {drawn['mae']:.6f} a value of "
        f"{count(int(drawn['pictures']), 'picture')}"
        + (f"; {drawn['errors']:,} cannot be read" if drawn["errors"] else "")
    )
    show_left_out(found)
    talk(f"{count(int(drawn['pairs']), 'pair')}, sheet.png and errors.csv in {flags.output}")
    print_json({"output": str(flags.output), **drawn}) if flags.json else out(flags.output)


def _draw(
    ours: Reconstructor, found: inputs.Inputs, flags: Flags, screen: Screen
) -> dict[str, float]:
    """Write the folder. Raises DataError, and leaves none, where there is no picture to draw."""
    from zoo.report import pairs

    most = 64 if flags.count is None else flags.count
    chosen = _spread(found.total, most)
    mse = mae = 0.0
    pictures = errors = drawn = 0
    with pairs.pair_folder(flags.output) as folder:
        for done, row in enumerate(ours.rows(found.each)):
            if row.before is None or row.after is None:
                folder.add_error(row.path, row.error)
                errors += 1
            else:
                draw = done in chosen if chosen else not most or drawn < most
                folder.add(row.path, row.mse, row.mae, row.before, row.after, draw=draw)
                drawn += draw
                mse, mae, pictures = mse + row.mse, mae + row.mae, pictures + 1
            screen.progress("pictures", done + 1, found.total)
        if not pictures:
            raise DataError("none of the pictures can be read", "check the files")
    means = {"mse": mse / pictures, "mae": mae / pictures}
    return {"pictures": pictures, "errors": errors, "pairs": drawn} | means


def _decode(flags: Flags) -> None:
    """Write the pictures that codes stand for. Raises DataError where there is no code."""
    from zoo.predict.codes import open_decoder, read
    from zoo.report import pairs

    with Screen() as screen:
        ours = open_decoder(flags.run, flags.device, trusts=flags.trust_changed)
        talk(ours.about)
        found = read(Path(flags.inputs), ours.width)
        total = len(found.names)
        if all(found.errors):
            raise DataError(f"{flags.inputs} has no code, only errors", "give codes of pictures")
        chosen = _spread(total, flags.count or 0) or set(range(total))
        with pairs.pair_folder(flags.output, pairs.SINGLE) as folder:
            for done, row in enumerate(ours.rows(found)):
                if row.picture is None:
                    folder.add_error(row.name, row.error)
                else:
                    folder.add_single(row.name, row.picture, draw=done in chosen)
                screen.progress("codes", done + 1, total)
            drawn = folder.pairs
    errors = sum(map(bool, found.errors))
    talk(
        f"{count(total - errors, 'code')} of {ours.width:,} numbers"
        + (f"; {errors:,} without one" if errors else "")
    )
    talk(f"{count(drawn, 'picture')}, sheet.png and pictures.csv in {flags.output}")
    about = {"codes": total - errors, "errors": errors, "pictures": drawn}
    print_json({"output": str(flags.output), **about}) if flags.json else out(flags.output)


def _spread(total: int | None, count: int) -> set[int]:
    """Return which pictures are drawn, evenly; empty where that is all or not known."""
    if total is None or not count or count >= total:
        return set()
    return {number * total // count for number in range(count)}
