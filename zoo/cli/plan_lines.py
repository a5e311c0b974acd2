"""The lines of a plan on the screen: what is done, how, and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.cli import layout
from zoo.cli.console import talk

if TYPE_CHECKING:
    from zoo.finetune.describe import Line

_WHAT, _REASON = 11, 45  # columns of the first word, and the fewest that a reason has beside it


def show_lines(told: Sequence[Line]) -> None:
    """Print lines of a plan, the reasons below each other; on a narrow screen after a dot."""
    width = layout.width_of(sys.stderr)
    widest = max(len(line.value) for line in told if len(line.value) < 50)
    beside = _WHAT + widest + 2  # where a reason begins
    narrow = width is not None and width - beside < _REASON
    for line in told:
        value = line.value if narrow else f"{line.value:<{widest}}"
        between = "" if not line.reason else " · " if narrow else "  "
        text = f"{line.what:<{_WHAT}}{value}{between}{line.reason}".rstrip()
        under = _WHAT if narrow or len(line.value) > widest else beside
        talk("\n".join(layout.wrapped(text, width, " " * under)))
