"""zoo doctor: what this installation and machine are like, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.cli.console import out, print_json, print_table, talk
from zoo.cli.options import options, shared
from zoo.text import count

if TYPE_CHECKING:
    from zoo.doctor import Line

MARKS = {"ok": "", "slow": "slow", "wrong": "WRONG"}


@dataclass(frozen=True)
class Flags:
    json: bool = shared("json")


@options
def command(flags: Flags) -> int:
    """Look at this installation: versions, devices, engines, folders, and what is slow and why.

    Each line that could be better says what to do. Exit 1 where something keeps zoo from working.
    The network is not asked.
    """
    from zoo import doctor

    lines = doctor.examine()
    wrong = [line for line in lines if line.state == "wrong"]
    slow = [line for line in lines if line.state == "slow"]
    if flags.json:
        print_json([line.to_dict() for line in lines])
    else:
        rows = [(line.name, line.found, MARKS[line.state], line.advice) for line in lines]
        print_table(rows, ("what", "found", "", "what to do"))
        out()
    talk(_in_all(lines, len(wrong), len(slow)))
    return 1 if wrong else 0


def _in_all(lines: Sequence[Line], wrong: int, slow: int) -> str:
    """Return how many lines want something done, and of the others how many have a hint."""
    of = f"of {count(len(lines), 'line')}"
    if wrong or slow:
        return f"{wrong} wrong, {slow} slow, {of}"
    hints = sum(bool(line.advice) for line in lines)
    return f"nothing wrong or slow, {of}" + (f"; {count(hints, 'hint')} in case" if hints else "")
