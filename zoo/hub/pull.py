"""The exported file of a repository: hashes are compared, and nothing in it is run as code."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from zoo.disk import replacing_all, writing
from zoo.engine.onnx import OnnxModel
from zoo.errors import WeightsError
from zoo.hub import FACTS, MODEL
from zoo.watch import Progress
from zoo.weights.fetch import Source, fetch
from zoo.weights.repository import Repository
from zoo.weights.store import HUB, at_hub, is_offline

_MOST = 16 << 20  # bytes of zoo.json
_WANTED = (MODEL, "README.md", "confusion.png")  # what is fetched, where zoo.json lists it


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that is here. path: its file, for `zoo predict`."""

    source: str
    path: str
    sha256: str
    bytes: int
    classes: int


def pull(source: Repository, folder: Path, progress: Progress | None = None) -> Pulled:
    """Fetch the exported file into a new folder. Raises WeightsError, WriteError."""
    if folder.exists():
        raise WeightsError(f"{folder} exists already", "--to NEW-FOLDER names another")
    if is_offline():
        raise WeightsError(f"{source} is not asked, for ZOO_OFFLINE is set", "unset it")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing_all(folder) as apart:
        apart.mkdir()
        files = _files(_fetched(source, FACTS, apart, "", progress))
        for name in filter(files.__contains__, _WANTED):
            _fetched(source, name, apart, files[name], progress)
        model = OnnxModel(apart / MODEL)  # what is no file of zoo's is refused
    size = (folder / MODEL).stat().st_size
    return Pulled(str(source), str(folder / MODEL), files[MODEL], size, len(model.classes))


def _fetched(
    source: Repository, name: str, folder: Path, sha256: str, progress: Progress | None
) -> Path:
    """Return the file, whole and with the right hash. Raises WeightsError."""
    url, token = at_hub(f"{HUB}/{source.name}/resolve/main/{name}")
    try:
        fetch(Source(url, sha256, token=token), folder / name, progress)
    except WeightsError as error:
        hint = (
            "nothing was kept; is there a network, is it a repository of `zoo push`, and yours to "
            "read (HF_TOKEN)?"
        )
        raise WeightsError(error.what, hint) from None
    return folder / name


def _files(path: Path) -> dict[str, str]:
    """Return the sha256 of each file that zoo.json lists. Raises WeightsError."""
    wrong = WeightsError(f"{FACTS} of this repository lists no {MODEL} with a sha256",
                         "`zoo push` makes repositories that have one")  # fmt: skip
    try:
        if path.stat().st_size > _MOST:
            raise wrong
        files = json.loads(path.read_text("utf-8"))["files"]
        for name, sha256 in files.items():
            if not re.fullmatch("[0-9a-f]{64}", sha256) or not isinstance(name, str):
                raise wrong
        return {**files, MODEL: files[MODEL]}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise wrong from None
