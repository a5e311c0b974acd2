"""What `--weights CHOICE` means."""

from __future__ import annotations

import os
from pathlib import Path

from zoo.catalog.spec import ModelSpec, Weights
from zoo.errors import WeightsError, nearest
from zoo.weights.repository import Repository, repository

SUFFIXES = (".safetensors", ".pth", ".pt")
OTHERS = "--weights FILE, FOLDER, hf-hub:ORG/NAME, or none"
RUN_FILE = "model.safetensors"


def choose(spec: ModelSpec, choice: str | None) -> Weights | Path | Repository | None:
    """Return what `--weights CHOICE` means for this row: its own, a file, a repository, or none.

    Nothing chosen is the row's default. Raises WeightsError for a word that means nothing here.
    """
    if choice is None:
        return spec.default_weights
    if choice.lower() == "none":
        return None
    if not choice.strip():
        raise WeightsError("no weights ''", f"{_tags(spec)}; or give {OTHERS}")
    for row in spec.weights:
        if row.tag.lower() == choice.lower():
            return row
    if (published := repository(choice)) is not None:
        return published
    path = Path(os.path.expanduser(choice))
    if os.path.isdir(path):
        return _in_run(path)
    if os.path.isfile(path):  # unlike Path.is_file, False for a name too long to be one
        if path.suffix.lower() not in SUFFIXES:
            raise WeightsError(f"{path} is not a weights file", f"one of *{', *'.join(SUFFIXES)}")
        return path
    if path.suffix or "/" in choice or os.sep in choice:
        raise WeightsError(f"no weights file {choice}", f"{_tags(spec)}; or give {OTHERS}")
    close = nearest(choice.lower(), [row.tag for row in spec.weights])
    hint = "; ".join(filter(None, (close, _tags(spec), f"or give {OTHERS}")))
    raise WeightsError(f"no weights {choice!r} for {spec.name}", hint)


def check_file(choice: str) -> None:
    """Raise WeightsError for the name of a file that is not there, whatever the model."""
    if repository(choice) is not None:
        return
    named = "/" in choice or os.sep in choice or choice.lower().endswith(SUFFIXES)
    if named and not os.path.exists(os.path.expanduser(choice)):
        raise WeightsError(
            f"no weights file {choice}",
            "give --weights a file that is there, a tag of the model, or none",
        )


def _in_run(folder: Path) -> Path:
    if not (folder / RUN_FILE).is_file():
        raise WeightsError(
            f"{folder} holds no {RUN_FILE}",
            "give a finished run, a folder with config.json, or a file",
        )
    return folder / RUN_FILE


def _tags(spec: ModelSpec) -> str:
    tags = ", ".join(row.tag for row in spec.weights)
    return f"{spec.name} has {tags or 'no weights of its own'}"
