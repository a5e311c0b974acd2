"""A run as a static folder: a page that names what photos show, in the browser, without a server.

The exported file is in it as it is, with ONNX Runtime Web beside it (see web_runtime.py) and the
page, whose parts are in page/; `zoo serve` has some of them, too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from zoo import __version__, weights
from zoo.disk import unfinished, writing
from zoo.errors import UsageError
from zoo.export import formats, run_file, web_runtime
from zoo.export.basis import About
from zoo.export.records import Fields, Order
from zoo.run import Run

PARTS = Path(__file__).parent / "page"
MODEL, LICENCE = "model.onnx", "LICENSE-onnxruntime.txt"
COPIED = ("photos.css", "photos.js", "site.js", "network.js")
NAMES = {"index.html", "model.json", MODEL, LICENCE, *COPIED, *web_runtime.FILES}
MIT = """\
ONNX Runtime Web. onnxruntime.js and onnxruntime.wasm are files of the npm package onnxruntime-web,
whose package.json says: MIT. Its text:

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A folder that was written. bytes: of all its files. runtime: which one, and where it is from.

    proved: the exported file was written and compared with the run now, and not before.
    """

    path: str
    bytes: int
    model_bytes: int
    runtime: str
    proved: bool

    def to_dict(self) -> Fields:
        return asdict(self)


def part(name: str) -> str:
    """Return a part of the page."""
    return (PARTS / name).read_text(encoding="utf-8")


def check_run(run: Run) -> None:
    """Raise UsageError for a run that names no classes."""
    if run.record.get("task") == "reconstruct":
        raise UsageError(
            f"{run.folder} is a run of an autoencoder: it gives pictures back and names nothing",
            "`zoo export onnx` writes it as a file",
        )


def check_place(folder: Path) -> None:
    """Raise UsageError for a folder with files that are not a site's, which would be lost."""
    if not folder.exists():
        return
    strange = sorted({*os.listdir(folder)} - NAMES) if folder.is_dir() else ["it is no folder"]
    if strange or (os.listdir(folder) and not (folder / "index.html").is_file()):
        what = ", ".join(strange[:3]) or "no index.html"
        raise UsageError(
            f"-o {folder} is there, and is no site of zoo: {what}",
            "give a new folder, or one that `zoo export web` wrote",
        )


def model_of(run: Run, wanted: formats.Wanted, order: Order) -> tuple[Path, bool]:
    """Return the run's exported file, and whether it was written now: one that is there will do.

    Raises what run_file.write does.
    """
    path = run_file.place_of(run, wanted)
    noted = run.record.get("exported", {}).get("image-int8" if wanted.int8 else "image", {})
    if path.is_file() and noted.get("sha256") == weights.hash_of(path):
        return path, False
    run_file.write(run, wanted, order)
    return path, True


def write(run: Run, model: tuple[Path, bool], folder: Path, runtime: web_runtime.Runtime) -> Site:
    """Write the folder, whole or not at all, in the place of one that was there.

    model: see model_of. Raises UsageError.
    """
    check_place(folder)
    path, proved = model
    about, size = About.of_run(run), path.stat().st_size
    licence = (run.record.get("weights") or {}).get("licence") or None
    facts = {
        "zoo": __version__, "title": about.model, "classes": about.classes,
        "threshold": about.threshold, "licence": licence, "runtime": runtime.source,
        "bytes": size + sum(map(len, runtime.files.values())),
    }  # fmt: skip
    texts = {name: part(name) for name in COPIED} | {
        "index.html": part("site.html").replace("{photos}", part("photos.html").strip()),
        "model.json": json.dumps(facts, ensure_ascii=False, indent=1),
        LICENCE: MIT,
    }
    files = {name: text.encode() for name, text in texts.items()} | runtime.files
    _fill(folder, files, path)
    return Site(str(folder), size + sum(map(len, files.values())), size, runtime.source, proved)


def _fill(folder: Path, files: Mapping[str, bytes], model: Path) -> None:
    """Write all files into a new folder, which takes its place when they are there."""
    place = Path(os.path.abspath(folder))
    mark = os.urandom(6).hex()
    new, old = (place.with_name(f".{place.name[:80]}.{mark}.{kind}") for kind in ("partial", "old"))
    with unfinished(new), unfinished(old), writing(place):
        new.mkdir(parents=True)
        for name, data in files.items():
            (new / name).write_bytes(data)
        shutil.copyfile(model, new / MODEL)
        if place.exists():
            place.rename(old)
        try:
            new.rename(place)
        except OSError:
            if old.exists():
                old.rename(place)
            raise
