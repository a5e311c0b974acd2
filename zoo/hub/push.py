"""Publish a run: its files are gathered, shown, and uploaded by huggingface_hub."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from zoo.disk import writing
from zoo.errors import InputError, UsageError, WriteError, first_line
from zoo.export.formats import Wanted
from zoo.export.hf import write_folder
from zoo.export.records import Order, Say, silent
from zoo.export.run_file import photos_of, proved, write
from zoo.hub import FACTS, MODEL
from zoo.hub.card import facts_of, text_of
from zoo.report.confusion import draw
from zoo.run import Run
from zoo.weights import hash_of
from zoo.weights.store import is_offline

CARD, PICTURE = "README.md", "confusion.png"
_NAME = r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}"


@dataclass(frozen=True, slots=True)
class Published:
    """Where a run is, and what of it. private: whether only its owner can read it."""

    name: str
    url: str
    private: bool
    files: dict[str, int]  # bytes by name


def check_name(name: str) -> None:
    """Raise UsageError for what is no ORG/NAME."""
    if not re.fullmatch(_NAME, name, re.ASCII):
        bare = re.sub(r"^(hf-hub:|https://huggingface\.co/)", "", name)
        like = bare if re.fullmatch(_NAME, bare, re.ASCII) else "your-name/clothes"
        raise UsageError(f"{name!r} is no repository", f"ORG/NAME, as {like}")


def gather(
    run: Run, name: str, folder: Path, licence: str = "", say: Say = silent
) -> dict[str, int]:
    """Write the files that are published into an empty folder; return the bytes of each.

    A run that was not exported is, first. Raises UsageError where its file is of another one.
    """
    record = run.finished().record
    source = run.path(MODEL)
    if not source.is_file():
        write(run, Wanted(), Order(photos_of(run), source, say=say))
    elif proved(run) is None:
        raise UsageError(
            f"{source} is not the file that was exported from this run as it is now",
            f"`zoo export onnx {shlex.quote(str(run.folder))}` makes it anew, then push again",
        )
    with suppress(UsageError):  # timm has no equivalent: there is the ONNX file
        write_folder(run, folder, card="-")
    with writing(folder):
        shutil.copyfile(source, folder / MODEL)
    facts = facts_of(record)
    if run.path("confusion.csv").is_file():
        with open(run.path("confusion.csv"), encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        draw(folder / PICTURE, header[1:], [[int(cell) for cell in row[1:]] for row in rows])
    files = sorted(path.name for path in folder.iterdir())
    with writing(folder):
        (folder / CARD).write_text(text_of(facts, name, licence, files), encoding="utf-8")
        hashes = {path.name: hash_of(path) for path in sorted(folder.iterdir())}
        told = {"format": 1, "files": hashes, "run": facts}
        text = json.dumps(told, indent=1, ensure_ascii=False)
        (folder / FACTS).write_text(text + "\n", encoding="utf-8")
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def upload(folder: Path, name: str, public: bool) -> Published:
    """Upload a folder as one commit. Raises InputError, WriteError.

    A repository that is new is private unless `public`; one that everybody reads is not added to
    without `public`.
    """
    if is_offline() or is_offline("HF_HUB_OFFLINE"):
        raise UsageError("the network is not to be used", "unset ZOO_OFFLINE and HF_HUB_OFFLINE")
    from huggingface_hub import HfApi

    with _asked(name):
        api = HfApi(os.environ.get("HF_ENDPOINT") or None, library_name="zoo")
        api.create_repo(name, private=not public, exist_ok=True)
        private = bool(api.repo_info(name).private)
        if not private and not public:
            raise UsageError(
                f"{name} is there already, and anyone can read it", "--public adds to it"
            )
        done = api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="zoo push", delete_patterns=["*"]
        )
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return Published(name, str(done.repo_url or name), private, files)


@contextmanager
def _asked(name: str) -> Iterator[None]:
    """Raise an error of ours for what huggingface_hub says of a repository."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        yield
    except LocalTokenNotFoundError:
        raise InputError("the Hub wants a token", _TOKEN) from None
    except HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        what = f"the Hub answers {code or 'nothing'} for {name}: {first_line(error)}"
        if code in (401, 403):
            raise InputError(what, _TOKEN) from None
        raise WriteError(what, "nothing, or all of it, was published: try again") from None
    except (OSError, ValueError, LookupError) as error:
        what = f"{name} could not be published: {first_line(error)}"
        raise WriteError(what, "is there a network? Is HF_ENDPOINT right?") from None


_TOKEN = "`hf auth login`, or HF_TOKEN with the right to write there"
