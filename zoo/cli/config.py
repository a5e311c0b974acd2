"""zoo config: the defaults of this user, shown and changed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from zoo import config
from zoo.cli.completion import offer
from zoo.cli.console import out, print_json, print_table, put, talk
from zoo.cli.sections import Grouped, Sectioned
from zoo.errors import UsageError

app = typer.Typer(
    help="Show or change your defaults of the weights folder, the cache and the device.",
    cls=Grouped,
    invoke_without_command=True,
)
Key = Annotated[
    str,
    typer.Argument(
        help="Which setting: weights, cache, device or cache_budget.", autocompletion=offer("key")
    ),
]


@app.callback()
def show(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show or change your defaults of the weights folder, the cache and the device.

    They are in one TOML file. The environment goes before it (ZOO_WEIGHTS, ZOO_CACHE, ZOO_DEVICE,
    ZOO_CACHE_BUDGET), and flags go before both. Example: zoo config set cache /scratch/zoo
    """
    if context.invoked_subcommand:
        return
    found = {name: (config.value(name), config.origin(name)) for name in config.KEYS}
    if json:
        told = {name: {"value": said, "from": who} for name, (said, who) in found.items()}
        print_json({"file": str(config.place()), **told})
        return
    rows = [
        (name, said or "-", who or "the default", config.KEYS[name][2])
        for name, (said, who) in found.items()
    ]
    print_table(rows, ("setting", "value", "said by", "what it is"), drop=("what it is",))
    there = "" if os.path.exists(config.place()) else ", which is not there"
    talk(f"file: {config.place()}{there}; `zoo config set KEY VALUE`, `zoo config unset KEY`")


@app.command("path", cls=Sectioned)
def path() -> None:
    """Print where the file is."""
    put(config.place())


@app.command("get", cls=Sectioned)
def get(key: Key) -> None:
    """Print the value of a setting, and nothing where it has none."""
    if key not in config.KEYS:
        config.check(key, "")
    out(config.value(key))


@app.command("set", cls=Sectioned)
def put_in(key: Key, value: Annotated[str, typer.Argument(help="Its value.")]) -> None:
    """Write a default into the file: `zoo config set weights /data/weights`."""
    config.check(key, value)
    if key == "cache" or (key == "weights" and "://" not in value):
        value = str(Path(value).expanduser().absolute())
    _write({**config.read(), key: value})
    talk(f"{key} = {value}, in {config.place()}")
    if (who := config.origin(key)).startswith("$"):
        talk(f"{who} is set in this environment, and goes before it")


@app.command("unset", cls=Sectioned)
def unset(key: Key) -> None:
    """Take a default out of the file."""
    if key not in config.KEYS:
        config.check(key, "")
    values = config.read()
    if key not in values:
        raise UsageError(f"{config.place()} does not say {key}", "`zoo config` shows what it says")
    del values[key]
    _write(values)
    talk(f"{key} has its default again")


def _write(values: dict[str, str]) -> None:
    from zoo.disk import atomic, writing

    place = config.place()
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    # A text of JSON without control characters is one of TOML as well.
    lines = [f"{name} = {json.dumps(said, ensure_ascii=False)}\n" for name, said in values.items()]
    with atomic(place) as file:
        file.write("".join(lines).encode())
