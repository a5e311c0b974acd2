"""Screens of commands at 60, 80 and 120 columns, compared with those in tests/screens/.

`ZOO_SCREENS=write pytest tests/test_screens.py` writes them anew, to be looked at in the diff.
Figures are masked by #, since they are of this machine; the widths are not.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
import time
from pathlib import Path

import pytest
from kit import write_photos

from zoo.cli import layout, main
from zoo.cli.commands import NAMES

WIDTHS = (60, 80, 120)
SCREENS = Path(__file__).parent / "screens"
ON = "--weights none --engine torch --device cpu"
CHEAP = f"{ON} --views 1"
SOLVED = f"finetune lenet photos --cut act4 --cache-budget 1GB {CHEAP}"
STEPS = f"finetune lenet photos --no-freeze --epochs 2 --best last {CHEAP}"
JOB = f"plan photos -o job-{{}} --model lenet --what features --stage flatten {ON}"
AT_A_CUT = f"finetune lenet job-{{0}} --cut flatten --epochs 2 --best last {ON}"
MASKS = {
    r"/zoo-\w{8}": "/zoo-########",
    r"plan [0-9a-f]{16}": "plan ################",
    r"(torch \d+\.\d+\.\d+)\+\w+": r"\1",
    r"\d\.\d{5,}": "#.######",
    r"\d": "#",
}
COMMANDS_OF = {  # in this order: those behind read what those before have written
    "list": ("list",),
    "list-like": ("list 'vgg1*'",),
    "info-model": ("info lenet",),
    "recipes": ("recipes",),
    "plan": (f"{STEPS} --dry-run",),
    "finetune": (f"{SOLVED} -o runs/solved-{{}}",),
    "steps": (f"{STEPS} --no-report -o runs/steps-{{}}",),
    "info-run": ("info runs/solved-80",),
    "evaluate": ("evaluate runs/solved-80 runs/steps-80", "evaluate runs/steps-80"),
    "compare": ("compare runs/solved-80 runs/steps-80",),
    "runs": ("runs",),
    "check": ("check photos --model runs/solved-80",),
    "predict": ("predict runs/solved-80 photos/disc --engine torch --device cpu",),
    "push": ("push runs/steps-80 me/shapes --dry-run",),
    "job": (JOB, "estimate job-{}", "work job-{}"),
    "job-at-a-cut": (f"{AT_A_CUT} -o runs/cut-{{0}}",),
    "export-all": (f"{SOLVED} --no-report -o runs/all-{{}}", "export --all runs/all-{}"),
    "wrong": ("finetune lenet nowhere", "info resnet51", "runs nowhere"),
}


@pytest.fixture(scope="module")
def place():
    """A folder with photos, some of them in the wrong class, where commands run as told."""
    temporary = tempfile.TemporaryDirectory(prefix="zoo-", dir="/tmp")  # of a known length
    folder = Path(temporary.name)
    write_photos(folder / "photos")
    for number in range(3):
        wrong = folder / f"photos/disc/{number:02}.png"
        wrong.rename(folder / f"photos/square/1{wrong.name}")
    (folder / "photos/stripes/notes.txt").write_text("none of a photo")
    with temporary, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ZOO_CACHE", str(folder / "cache"))
        # seconds have no length of their own
        for clock in ("perf_counter", "process_time", "thread_time"):
            patch.setattr(time, clock, lambda: 0.0)
        yield patch


@pytest.fixture
def screen(place, capfd):
    """What a command shows on a screen of some width, its figures masked."""

    def shown(command: str, width: int) -> str:
        place.setenv("COLUMNS", str(width))
        code = main(shlex.split(command.format(width)))
        text = "".join(reversed(capfd.readouterr()))  # what is said, then what is answered
        for line in text.splitlines():
            assert layout.cells_of(line) <= width, line
        for figure, mask in MASKS.items():
            text = re.sub(figure, mask, text)
        return f"$ zoo {command.format(width)}\n{text}" + (f"exit {code}\n" if code else "")

    return shown


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n == "export-all" else []) for n in COMMANDS_OF],
)
def test_a_screen_is_as_it_was_looked_at(name, screen):
    shown = [
        f"{f' {width} columns ':=^{width}}\n"
        + "\n".join(screen(c, width) for c in COMMANDS_OF[name])
        for width in WIDTHS
    ]
    file, text = SCREENS / f"{name}.txt", "\n".join(shown)
    if os.environ.get("ZOO_SCREENS") == "write":
        SCREENS.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_no_help_is_wider_than_the_screen_or_has_an_empty_default(screen):
    for name in ("", *NAMES):
        for width in WIDTHS:
            shown = screen(f"{name} --help".strip(), width)
            assert "Default: ." not in shown, name
