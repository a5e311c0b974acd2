"""Flags that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

TrustChanged = Annotated[
    bool,
    typer.Option("--trust-changed", help="Use a run's network that was changed after training."),
]
