"""zoo reconstruct: what an autoencoder gives back, beside what it was given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.console import Screen, out, print_json, talk
from zoo.cli.flags import TrustChanged
from zoo.cli.predict import show_left_out
from zoo.errors import DataError
from zoo.text import count as counted

if TYPE_CHECKING:
    from zoo.predict.inputs import Inputs
    from zoo.predict.reconstruct import Reconstructor


def command(
    run: Annotated[str, typer.Argument(help="A finished run of an autoencoder.")],
    inputs: Annotated[str, typer.Argument(help="Folder, picture, 'glob', list.txt, or - (stdin).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A new folder.")] = Path("pairs"),
    count: Annotated[int, typer.Option(min=0, help="How many pairs are drawn; 0: all.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    trust_changed: TrustChanged = False,
    json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")] = False,
) -> None:
    """Pairs side by side as PNG, a sheet of them, and errors.csv with the error of every picture.

    On the left the picture as the network sees it, on the right what it gives back; both small
    ones enlarged by nearest neighbour.
    """
    from zoo.predict import inputs as sources
    from zoo.predict.reconstruct import open_reconstructor
    from zoo.report import pairs

    pairs.refuse(output)
    found = sources.find(inputs, sys.stdin)
    with Screen() as screen:
        ours = open_reconstructor(run, device, trusts=trust_changed)
        talk(ours.about)
        result = draw(ours, found, output, count, screen)
    talk(
        f"mean MSE {result['mse']:.6f}, MAE {result['mae']:.6f} a value of "
        f"{counted(result['pictures'], 'picture')}"
        + (f"; {result['errors']:,} cannot be read" if result["errors"] else "")
    )
    show_left_out(found)
    talk(f"{counted(result['pairs'], 'pair')}, sheet.png and errors.csv in {output}")
    print_json({"output": str(output), **result}) if json else out(output)


def draw(
    ours: Reconstructor, found: Inputs, output: Path, count: int, screen: Screen
) -> dict[str, Any]:
    """Writes the folder. Raises DataError, and leaves none, where there is no picture to draw."""
    from zoo.report import pairs

    chosen = spread(found.total, count)
    mse = mae = 0.0
    pictures = errors = drawn = 0
    with pairs.pair_folder(output) as folder:
        for done, row in enumerate(ours.rows(found.each)):
            if row.before is None or row.after is None:
                folder.add_error(row.path, row.error)
                errors += 1
            else:
                wanted = (done in chosen) if chosen else (not count or drawn < count)
                folder.add(row.path, row.mse, row.mae, row.before, row.after, draw=wanted)
                drawn += wanted
                mse, mae, pictures = mse + row.mse, mae + row.mae, pictures + 1
            screen.progress("pictures", done + 1, found.total)
        if not pictures:
            raise DataError("none of the pictures can be read", "check the files")
    average = 1 / max(1, pictures)
    return {
        "pictures": pictures,
        "errors": errors,
        "pairs": drawn,
        "mse": mse * average,
        "mae": mae * average,
    }


def spread(total: int | None, count: int) -> set[int]:
    """Which of the pictures are drawn, evenly over all; empty where that is all or not known."""
    if total is None or not count or count >= total:
        return set()
    return {number * total // count for number in range(count)}
