"""Where a new run goes."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from zoo.errors import RunError
from zoo.run import Run, refuse


def place_of(model: str, data: str, output: Path | None = None) -> tuple[Path, bool]:
    """Return the folder for a new run, and whether the torchrun that started us has begun it.

    It is runs/MODEL-PHOTOS unless it is given, with a number behind it where that is taken. Raises
    RunError for a folder that is there, or that is among the photos, before weights are loaded;
    Run.create checks it again.
    """
    if output is None:
        name = f"{model.replace('/', '-')}-{Path(data).resolve().name}"
        names = (name, *(f"{name}-{number}" for number in range(2, 10_000)))
        places = (Path("runs") / each for each in names)
        output = next(path for path in places if not path.exists() or Run.begun_here(path))
    check_apart(output, data)
    begun = Run.begun_here(output)
    if output.exists() and not begun:
        refuse(output)
    return output, begun


def check_apart(folder: Path, data: str) -> None:
    """Raise RunError for a run folder inside the folder of photos, or the photos inside of it.

    Nothing is written into the photos' folder, and what is in it would be photos of the next run.
    """
    if not os.path.isdir(data):
        return
    ours, theirs = Path(os.path.realpath(folder)), Path(os.path.realpath(data))
    if ours == theirs or theirs in ours.parents:
        within = theirs in (Path.cwd(), *Path.cwd().parents)
        outside = os.path.join(os.path.relpath(theirs.parent) if within else "", "runs", ours.name)
        raise RunError(
            f"the run folder {folder} would be inside the photos' folder {data}",
            f"choose a place outside of it: -o {shlex.quote(outside)}",
        )
    if ours in theirs.parents:
        raise RunError(
            f"the photos in {data} are inside the run folder {folder}",
            "choose another place for the run with -o",
        )
