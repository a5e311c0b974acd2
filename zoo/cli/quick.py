"""Answers to words that need no parser: to import typer takes longer than to give them.

They are typer's to the letter, out of the same table and the same flags; a test compares them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from zoo.cli.commands import HELP, help_text, version_text


def answer(words: Sequence[str]) -> int | None:
    """Answer a command line and return its exit code; None where it is for typer to read."""
    if "_ZOO_COMPLETE" in os.environ:  # a shell asks what Tab offers
        return None
    words = list(words)
    if not words or words in ([one] for one in HELP):
        print(help_text())
        return 0 if words else 2
    if words == ["--version"]:
        print(version_text())
        return 0
    return _listed(words[1:]) if words[0] == "list" else None


def _listed(words: Sequence[str]) -> int | None:
    """Answer `zoo list` with switches and a pattern alone."""
    from zoo.cli.list_models import command

    given = command.understood(words)
    if given is None:
        return None
    command(**given)
    return 0
