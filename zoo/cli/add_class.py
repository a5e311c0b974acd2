"""zoo add-class: a class more for a finished run, from a few photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.cli.console import Screen, print_json, put, talk
from zoo.cli.options import argument, flag, options, output, shared
from zoo.errors import UsageError
from zoo.text import count, percent


@dataclass(frozen=True)
class Flags:
    run: Path = argument("A finished run of a linear, prototype or knn head.")
    added: str = argument("The new class and the folder of its photos, as wasps=photos/wasps.")
    output: Path | None = output("New run folder. Default: RUN-NAME.")
    trust_changed: bool = shared("trust_changed")
    json: bool = flag("Print the result as JSON on stdout.")


@options
def command(flags: Flags) -> None:
    """Add a class to a run from a folder of its photos; 3 photos suffice. RUN stays as it is.

    The new run's head has one class more; the scores of the old classes are the same bits.
    Example: zoo add-class runs/insects wasps=photos/wasps -o runs/insects-wasps
    """
    from zoo.data.names import merged
    from zoo.finetune.add_class import add_class
    from zoo.finetune.place import check_apart
    from zoo.predict.sorting import safe
    from zoo.report.next_steps import use
    from zoo.run import Run, refuse

    name, _, folder = flags.added.partition("=")
    if not name.strip() or not folder:
        raise UsageError(
            f"'{flags.added}' names no class and folder", "give NAME=FOLDER, as wasps=photos/wasps"
        )
    run = Run.open(flags.run, trusts=flags.trust_changed).finished()
    own = safe(Path(name.strip()).name)[:80]
    place = flags.output or flags.run.with_name(f"{flags.run.resolve().name}-{own}")
    check_apart(place, folder)
    if place.exists():
        refuse(place)
    with Screen() as screen:
        made = add_class(run, name.strip(), Path(folder), place, screen)
    for path, reason in made.skipped[:5]:
        talk(f"warning: left out: {path}: {reason}")
    if len(made.skipped) > 5:
        talk(f"warning: left out: {len(made.skipped) - 5:,} more")
    for note in merged(dict.fromkeys(made.run.record["classes"], 1))[1]:
        talk(note)
    held = f"{made.found} of {made.photos} right when left out in turn" if made.photos > 1 else (
        "none left out to ask: there is one"
    )  # fmt: skip
    talk(f"{name}: {count(made.photos, 'photo')}, {held}")
    talk(
        f"old classes: accuracy {percent(made.before)} before, {percent(made.after)} now on the "
        f"val photos; {made.lost} of them {'is' if made.lost == 1 else 'are'} taken for {name}"
    )
    talk(f"next: {use(made.run)}")
    if flags.json:
        print_json({"run": str(made.run.folder), **made.run.record})
    else:
        put(made.run.folder)
