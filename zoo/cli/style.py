"""Which meaning has which colour. Numbers, names and all the rest are as the terminal has them.

Nothing is coloured where a stream is no terminal, where TERM is dumb, and with NO_COLOR
(https://no-color.org); FORCE_COLOR (https://force-color.org) colours what is piped, too. Of the
sixteen colours whatever theme a person has makes something legible, on dark and on light.
"""

from __future__ import annotations

import os
import re
from typing import IO

STYLES = {  # meaning -> what SGR makes of it
    "error": "1;31",  # bold red
    "serious": "1;31",
    "warning": "33",  # yellow
    "interrupted": "33",
    "hint": "36",  # cyan
    "next": "36",
    "note": "36",
    "command": "36",
    "bar": "36",
    "best": "1",  # bold
    "title": "4",  # underlined: the header of a table
}
_BEGINS = re.compile(r"(error|warning|hint|interrupted|next)(?=[:;\n]|$)")
_WITHIN = re.compile(r"(?P<warning>\bWARNING\b)|(?P<command>`[^`\n]+`)")


def coloured(stream: IO[str]) -> bool:
    """Return whether what is written to a stream has colours."""
    about = os.environ
    if about.get("NO_COLOR"):
        return False
    if about.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream.isatty() and about.get("TERM", "dumb") != "dumb"


def paint(text: str, meaning: str, stream: IO[str]) -> str:
    """Return a text as its meaning is shown on a stream."""
    return _painted(text, meaning) if text and coloured(stream) else text


def told(text: str, stream: IO[str]) -> str:
    """Return a line of talk: the word that says what it is in its colour, and commands in it."""
    if not coloured(stream):
        return text
    begins = _BEGINS.match(text)
    first = _painted(begins[0], begins[0]) if begins else ""
    rest = text[begins.end() :] if begins else text
    return first + _WITHIN.sub(lambda found: _painted(found[0], str(found.lastgroup)), rest)


def _painted(text: str, meaning: str) -> str:
    return f"\033[{STYLES[meaning]}m{text}\033[0m"
