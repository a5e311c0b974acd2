"""zoo recipes: the settings that come with zoo, each with results that were measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.cli.console import out, print_json, print_table, talk
from zoo.cli.options import argument, options, shared
from zoo.errors import RecipeError, nearest


@dataclass(frozen=True)
class Flags:
    name: str | None = argument("A recipe, to print it; without one all are listed.", None)
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """List the recipes that come with zoo, or print one: `zoo train --recipe lenet-mnist`."""
    from zoo import recipe

    known = recipe.ours()
    if flags.name is not None:
        known = {flags.name: _found(flags.name, known)}
    values = {name: recipe.load(path) for name, path in known.items()}
    if flags.json:
        print_json([{"name": name, **values[name]} for name in known])
    elif flags.name is not None:
        out(known[flags.name].read_text(encoding="utf-8").rstrip())
    else:
        rows = [
            (name, str(values[name].get("model", "any")), _about(path))
            for name, path in known.items()
        ]
        print_table(rows, ("recipe", "model", "what it is"))
        talk("one of them: zoo recipes NAME; use it: zoo train --recipe NAME")


def _found(name: str, known: dict[str, Path]) -> Path:
    """Return the file of a recipe. Raises RecipeError."""
    found = known.get(name.removesuffix(".toml"))
    if found is None:
        near = nearest(name, known)
        raise RecipeError(f"no recipe {name}", f"{near} `zoo recipes` lists them".strip())
    return found


def _about(path: Path) -> str:
    """Return the first line of a recipe, which says what it is."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
