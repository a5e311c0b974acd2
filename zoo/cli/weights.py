"""zoo weights: what lies in the store, and whether it is still what it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo import catalog
from zoo.cli.console import Screen, out, print_json, put, table, talk
from zoo.cli.pull import choose
from zoo.cli.sections import Grouped
from zoo.errors import WeightsError
from zoo.text import count, printable

if TYPE_CHECKING:
    from zoo.weights.inventory import Item

app = typer.Typer(
    help="What is in the store: list, verify, path, remove.", no_args_is_help=True, cls=Grouped
)
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Names = Annotated[
    list[str] | None, typer.Argument(help="Models or files of the store. Default: all.")
]


@app.callback()
def store() -> None:
    pass


@app.command("list")
def listing(json: Json = False) -> None:
    """List every file of the store: size, sha256, model, licence, whether it was verified."""
    from zoo.weights import inventory

    found = inventory.items()
    if json:
        print_json([item.to_dict() for item in found])
        return
    talk(f"{count(len(found), 'file')} in {inventory.weights_folder()}")
    if found:
        out("\n".join(rows(found, {})))


@app.command("verify")
def verify(names: Names = None, json: Json = False) -> int:
    """Hash every file anew, and open it as a network would. Exit 2 if one is not what it was."""
    from zoo.weights import inventory

    found = inventory.named(names) if names else inventory.items()
    found = [item for item in found if item.state in ("verified", "unknown")]
    wrong = {}
    with Screen() as screen:
        for done, item in enumerate(found):
            screen.progress("files", done, len(found))
            damage = inventory.verify(item)
            if damage:
                wrong[item.file] = damage
    if json:
        print_json([{**one.to_dict(), "damage": wrong.get(one.file, "")} for one in found])
    elif found:
        out("\n".join(rows(found, wrong)))
    if wrong:
        first, damage = next(iter(wrong.items()))
        those = "is not what it" if len(wrong) == 1 else "are not what they"
        raise WeightsError(
            f"{len(wrong)} of {count(len(found), 'file')} {those} should be; {first}: {damage}",
            f"`zoo weights remove {first}` and `zoo pull` it again",
        )
    talk(count(len(found), "file") + (", each as it was" if len(found) > 1 else ", as it was"))
    return 0


@app.command("path")
def path(
    name: Annotated[
        str | None, typer.Argument(help="Model, MODEL/TAG or file. Default: the folder itself.")
    ] = None,
) -> None:
    """Print where the store is, or the file that a model's weights are read from, verified.

    That may be one in the folder of $ZOO_WEIGHTS, or of the package itself.
    """
    from zoo.weights import inventory

    if name is None:
        put(inventory.weights_folder())
        return
    kept = {item.path: item for item in inventory.items()}
    for path in places(name, list(kept.values())):
        if path in kept and (damage := inventory.verify(kept[path])):
            raise WeightsError(f"{path}: {damage}", f"`zoo weights remove {path.name}`")
        put(path)


def places(name: str, kept: list[Item]) -> list[Path]:
    """Return the files of a model's weights: its default, else whichever is here. Raises for none.

    Those in the store are not verified yet, the others are. name: also of a file.
    """
    from zoo import weights
    from zoo.weights import choice, inventory

    rows = [row for spec in catalog.ROWS.values() for row in spec.weights if row.file == name]
    if not any(map(weights.held, rows)):
        known = [item for item in kept if name in (item.file, item.model)]
        file = Path(name).suffix in choice.SUFFIXES or any(item.file == name for item in known)
        if file or (known and catalog.of_library(name)):
            return [item.path for item in inventory.named([name])]
        spec, default = choose(name, None)
        rows = [default] if catalog.base(name) != name else list(spec.weights)
    here = next((row for row in rows if weights.held(row)), None)
    if here is None:
        raise WeightsError(
            f"no weights '{name}' on this machine: {rows[0].file} is neither in "
            f"{inventory.weights_folder()}, nor in the package, nor in a folder that ZOO_WEIGHTS "
            "names",
            f"`zoo pull {name}` fetches them"
            if rows[0].url
            else "no address of it is known: put it into a folder, and set ZOO_WEIGHTS to that",
        )
    path = weights.held(here)
    assert path is not None
    if path not in [item.path for item in kept]:
        weights.check(weights.find(here, offline=True))
    return [path]


@app.command("remove")
def remove(
    names: Annotated[list[str], typer.Argument(help="Models or files to remove.")],
    json: Json = False,
) -> None:
    """Take files out of the store, with what was made of them. A wrong name removes nothing."""
    from zoo.weights import inventory

    found = inventory.named(names)
    free = sum(inventory.remove(item) for item in found)
    talk(f"{count(len(found), 'file')} removed, {free / 1e6:,.1f} MB free")
    if json:
        print_json([item.to_dict() for item in found])
    else:
        out("\n".join(item.file for item in found))


def rows(found: list[Item], wrong: dict[str, str]) -> list[str]:
    cells = [
        (
            printable(item.file),
            f"{item.bytes / 1e6:,.1f} MB",
            item.sha256[:12] or "-",
            printable(item.model) or "-",
            printable(item.tag) or "-",
            printable(item.licence) or "-",
            "DAMAGED" if item.file in wrong else item.state,
        )
        for item in found
    ]
    header = ("file", "size", "sha256", "model", "weights", "licence", "state")
    return table(cells, header, " r")
