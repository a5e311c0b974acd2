"""Where a new run goes."""

from __future__ import annotations

from pathlib import Path

from zoo.disk import check_apart
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
