"""zoo distill: a smaller network learns what a run answers."""

from __future__ import annotations

from dataclasses import MISSING, dataclass

from zoo.cli import flags
from zoo.cli.options import argument, flag
from zoo.settings.setting import WHAT


@dataclass(frozen=True)
class Flags:
    teacher: str = argument("Run whose answers are learned, as runs/a.")
    data: str = argument("Photos, with labels or without: a folder of pictures will do.")
    student: str = flag(
        "Network that learns them: a name of `zoo list`, torchvision/NAME or timm/NAME.",
        WHAT,
        MISSING,
    )


@flags.settings("distill", Flags, flags.Way, without=("resume", "ray"))
def command(given: dict[str, object], words: Flags, way: flags.Way) -> None:
    """Train a smaller network on what a run answers, with labels or without.

    As in `zoo distill runs/big --student timm/mobilenetv4_conv_small photos`. All of the student is
    trained, from its published weights unless --weights says otherwise. At the end both are
    measured on the run's val photos. `zoo finetune --resume` goes on with an interrupted one.
    """
    from zoo import catalog
    from zoo import recipe as recipes
    from zoo.cli.finetune import begin

    student = words.student
    row = None if catalog.of_library(student) else catalog.find(student)
    if row is not None and not row.weights:
        given.setdefault("weights", "none")
    given |= {"teacher": words.teacher, "data": words.data, "model": student}
    whole = {"freeze": False, "task": "classify"}
    begin(recipes.make(given | whole, way.recipe, "distill"), way)
