"""zoo weights: what lies in the store, and whether it is still what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.screen import Screen, print_json, printable, table, talk
from zoo.errors import WeightsError

if TYPE_CHECKING:
    from zoo.weights.shelf import Item

app = typer.Typer(help="What is in the store: list, verify, path, remove.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="For machines.")]
Names = Annotated[list[str] | None, typer.Argument(help="Models or files; else all.")]


@app.callback()
def store() -> None:
    pass


@app.command("list")
def listing(json: Json = False) -> None:
    """Every file of the store: size, sha256, whose it is, its licence, whether it was verified."""
    from zoo.weights import shelf

    found = shelf.items()
    if json:
        print_json([item.to_dict() for item in found])
        return
    talk(f"{len(found)} files in {shelf.weights_folder()}")
    if found:
        print("\n".join(rows(found, {})))


@app.command("verify")
def verify(names: Names = None, json: Json = False) -> int:
    """Hash every file anew, and open it as a network would. Exit 2 if one is not what it was."""
    from zoo.weights import shelf

    found = shelf.named(names) if names else shelf.items()
    found = [item for item in found if item.state in ("verified", "unknown")]
    wrong = {}
    with Screen(at_once=True) as screen:
        for done, item in enumerate(found):
            screen.progress("files", done, len(found))
            damage = shelf.verify(item)
            if damage:
                wrong[item.file] = damage
    if json:
        print_json([{**one.to_dict(), "damage": wrong.get(one.file, "")} for one in found])
    elif found:
        print("\n".join(rows(found, wrong)))
    if wrong:
        first, damage = next(iter(wrong.items()))
        raise WeightsError(
            f"{len(wrong)} of {len(found)} files are not what they should be; {first}: {damage}",
            f"`zoo weights remove {first}` and `zoo pull` it again",
        )
    talk(f"{len(found)} files, each as it was")
    return 0


@app.command("path")
def path(
    name: Annotated[str | None, typer.Argument(help="Model or file; else the store.")] = None,
) -> None:
    """Where the store is, or the file of a model in it, verified."""
    from zoo.weights import shelf

    if name is None:
        print(shelf.weights_folder())
        return
    for item in shelf.named([name]):
        damage = shelf.verify(item)
        if damage:
            raise WeightsError(f"{item.path}: {damage}", f"`zoo weights remove {item.file}`")
        print(item.path)


@app.command("remove")
def remove(
    names: Annotated[list[str], typer.Argument(help="Models or files.")], json: Json = False
) -> None:
    """Take files out of the store, with what was made of them. A wrong name removes nothing."""
    from zoo.weights import shelf

    found = shelf.named(names)
    free = sum(shelf.remove(item) for item in found)
    talk(f"{len(found)} files removed, {free / 1e6:,.1f} MB free")
    if json:
        print_json([item.to_dict() for item in found])
    else:
        print("\n".join(item.file for item in found))


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
