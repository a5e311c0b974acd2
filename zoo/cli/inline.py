"""Pictures in a terminal that can show them: kitty's protocol and iTerm2's.

https://sw.kovidgoyal.net/kitty/graphics-protocol and https://iterm2.com/documentation-images.html.
What a terminal can is told by what it sets in the environment; it is never asked, since one that
does not answer would have to be waited for.
"""

from __future__ import annotations

import os
import sys
from base64 import standard_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import IO

CHUNK = 4096  # characters of one message of kitty's
LARGEST = 8_000_000  # bytes of a file that is sent
# Programs that speak a protocol, by TERM_PROGRAM or LC_TERMINAL.
KITTY = ("ghostty", "konsole")
ITERM2 = ("iTerm.app", "iTerm2", "WezTerm", "mintty", "vscode")


def show(file: Path) -> bool:
    """Draw a PNG on the terminal that stderr is; return whether it can and did."""
    if not sys.stderr.isatty() or not file.is_file() or file.stat().st_size > LARGEST:
        return False
    return draw(file.read_bytes(), sys.stderr, os.environ)


def draw(png: bytes, stream: IO[str], about: Mapping[str, str]) -> bool:
    """Write a PNG to a terminal with this environment; return whether it can show it."""
    protocol = _protocol(about)
    if protocol:
        stream.write((_kitty if protocol == "kitty" else _iterm2)(png) + "\n")
        stream.flush()
    return bool(protocol)


def _protocol(about: Mapping[str, str]) -> str:
    """Return `kitty`, `iterm2` or nothing; tmux and screen pass none of them on."""
    plain = about.get("TERM", "dumb") == "dumb" or about.get("NO_COLOR")
    if plain or about.get("TMUX") or about.get("TERM", "").startswith("screen"):
        return ""
    programs = {about.get("TERM_PROGRAM", ""), about.get("LC_TERMINAL", "")}
    if "kitty" in about["TERM"] or about.get("KITTY_WINDOW_ID") or programs & {*KITTY}:
        return "kitty"
    return "iterm2" if programs & {*ITERM2} else ""


def _kitty(png: bytes) -> str:
    """Return a PNG in messages: a=T shows it, f=100 is PNG, m=1 says that more follows."""
    text = standard_b64encode(png).decode()
    parts = [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]
    first = "a=T,f=100,q=2,"
    return "".join(
        f"\033_G{'' if number else first}m={int(number + 1 < len(parts))};{part}\033\\"
        for number, part in enumerate(parts)
    )


def _iterm2(png: bytes) -> str:
    """Return a PNG in one message, as wide as it is but no wider than the window."""
    text = standard_b64encode(png).decode()
    return f"\033]1337;File=inline=1;size={len(png)};preserveAspectRatio=1:{text}\a"
