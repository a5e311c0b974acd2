"""The run folder: everything a command learned, and all that the next command reads.

recipe.toml           the resolved settings            index.csv    photos, classes, split, sha256
run.json              the record: what, on what, how   skipped.csv  what was left out, and why
metrics.jsonl         one line per epoch               model.safetensors  the network
distance.safetensors  how far a photo is from those of the training (zoo.head.distance)
suspicious.csv        training photos whose label is probably wrong (zoo.head.suspicious)
checkpoint.safetensors  where an unfinished run goes on from, checkpoint-previous.safetensors  the
one before it         lock         who works in the folder, as long as somebody does
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from zoo import lock, records
from zoo.data.index import DatasetIndex
from zoo.disk import atomic, hidden, opened, refuse_links, sweep, unfinished, write_json, writing
from zoo.errors import RunError, WriteError
from zoo.records import EDITED
from zoo.text import TEXT, csv_lines, read_name

FORMAT = 1
Record = dict[str, Any]  # run.json, or a line of metrics.jsonl
DISTANCE = "distance.safetensors"
CHECKPOINTS = ("checkpoint.safetensors", "checkpoint-previous.safetensors")
TABLE = 4_000_000_000  # bytes of index.csv at most: the paths of 20 million photos
MOST, LINES = 5, 256_000_000  # runs that are named, bytes of metrics.jsonl


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """See `csv_line` for names that are no text."""
    with atomic(path) as file:
        file.writelines(text.encode() for text in csv_lines(itertools.chain([header], rows)))


def refuse(folder: Path) -> NoReturn:
    """Raise the RunError for a folder that is there already."""
    run = None
    with suppress(RunError):
        run = Run.open(folder)
    if run and run.record["status"] == "started":
        lock.refuse_held(folder)
        raise RunError(f"{folder} exists already", resume=run.resume) from None
    hint = "choose another folder with -o, or remove this one"
    raise RunError(f"{folder} exists already", hint) from None


@contextmanager
def making(folder: Path) -> Iterator[None]:
    """Turn a failure to make a run folder into the error of it."""
    try:
        yield
    except OSError as error:
        if folder.exists():
            refuse(folder)
        raise WriteError(
            f"cannot make the run folder {folder}: {error.strerror}",
            "choose another place with -o",
        ) from None


def launch() -> str:
    """What names the torchrun that has started this process, also after a restart; else nothing."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    if name != "none":  # as it is with its static rendezvous, of processes of one machine
        return name
    return f"{lock.system()} {os.getppid()} {lock.began(os.getppid())}"


class Run:
    """One run folder, open."""

    def __init__(self, folder: Path, record: Record, *, trusts: bool = False) -> None:
        """trusts: a network that was changed after it was saved is used all the same."""
        self.folder = folder
        self.record = record
        self.trusts = trusts
        self.lock: lock.Lock | None = None

    @classmethod
    def create(cls, folder: Path, record: Record) -> Run:
        """Make the folder; an existing one is refused, so that no run is ever overwritten."""
        with cls.creating(folder, record) as run:
            return run

    @classmethod
    @contextmanager
    def creating(cls, folder: Path, record: Record) -> Iterator[Run]:
        """The folder, for its first files, under another name: it appears whole or not at all.

        Raises RunError for an existing folder, WriteError.
        """
        if folder.exists():
            refuse(folder)
        beginning = hidden(folder)
        run = cls(beginning, {"format": FORMAT, "status": "started", **record})
        with unfinished(beginning):
            with making(folder):
                beginning.mkdir(parents=True)
            yield run
            run.save()
            with making(folder):
                beginning.rename(folder)  # of several, one: a folder with files is not replaced
        run.folder = folder

    @contextmanager
    def held(self) -> Iterator[lock.Lock]:
        """No other process works in the folder; within itself it changes nothing.

        Raises RunError where another does, and where the folder holds a link.
        """
        if self.lock is not None:
            yield self.lock
            return
        refuse_links(self.folder)
        with lock.held(self.folder) as self.lock:
            sweep(self.folder)
            try:
                yield self.lock
            finally:
                self.lock = None

    def must_be_held(self) -> None:
        """Raises RunError where another process took this one for dead and works here now."""
        if self.lock is not None:
            self.lock.must_be_ours()

    @classmethod
    def open(cls, folder: Path, *, trusts: bool = False) -> Run:
        """Open a run folder. Raises RunError for anything else. trusts: see `Run`."""
        path = folder / "run.json"
        try:
            record = records.read_json(path)
        except (FileNotFoundError, NotADirectoryError):
            raise _no_run(folder) from None
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise RunError(f"{path} cannot be read: {why}", EDITED) from None
        said = record.get("format") if isinstance(record, dict) else None
        if said != FORMAT:
            raise records.other_format(path, said, FORMAT)
        run = cls(folder, record, trusts=trusts)
        run.check(records.RUN)
        return run

    def check(self, check: records.Check, needed: tuple[str, ...] = ()) -> None:
        """Raises RunError that names the field of run.json which is wrong or is not there."""
        try:
            check(self.record, "")
            records.fields({}, needed)(self.record, "")
        except records.Wrong as error:
            raise RunError(f"{self.path('run.json')}: {error}", EDITED) from None

    def finished(self) -> Run:
        """Return this run, or raise RunError where it did not come to its end."""
        if self.record["status"] == "failed":
            raise RunError(
                f"{self.folder} failed: {self.record.get('reason')}",
                "remove it, and train again with another setting",
            )
        if self.record["status"] != "finished":
            raise RunError(
                f"{self.folder} is unfinished (status: {self.record['status']})",
                resume=self.resume,
            )
        self.record.setdefault("precision", "fp32")
        self.check(records.fields({}), records.BEGUN)
        several = self.record.get("task") == "multilabel"
        if several and self.record.get("threshold") is None:
            self.check(records.fields({}), ("threshold",))
        return self

    @property
    def resume(self) -> str:
        """Return the command that goes on with this run."""
        start, cut = self.record.get("weights"), self.record.get("cut")
        random = isinstance(start, dict) and start.get("tag") == "none"
        verb = "train" if random and cut is None else "finetune"
        return f"zoo {verb} --resume {shlex.quote(str(self.folder))}"

    def begun(self) -> Run:
        """Return this run, or raise RunError where run.json lacks what a resume needs."""
        self.check(records.fields({}), records.RESUMED)
        return self

    @classmethod
    def begun_here(cls, folder: Path) -> bool:
        """Whether this torchrun has begun the run, before it started its processes again."""
        try:
            return bool(launch()) and cls.open(folder).record.get("launch") == launch()
        except RunError:
            return False

    def discard(self) -> None:
        """Remove a folder in which nothing was trained yet."""
        trained = ("model.safetensors", *CHECKPOINTS)
        if not self.metrics() and not any(self.path(name).exists() for name in trained):
            shutil.rmtree(self.folder)

    def tidy(self) -> None:
        """Remove what a process that was killed at the very end has left in a finished run."""
        with self.held():
            for name in CHECKPOINTS:
                self.path(name).unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        return self.folder / name

    def save(self) -> None:
        write_json(self.path("run.json"), self.record)

    def update(self, **values: object) -> None:
        self.record |= values
        self.save()

    def save_index(self, index: DatasetIndex, digests: Mapping[str, bytes] | None = None) -> None:
        """digests: sha256 of photos' content by path, which are known after the first pass.

        A picture in a container has none in the table: it is not a file of its own.
        """
        inside, known = {path for path, _ in index.containers}, digests or {}
        if inside:
            known = {p: d for p, d in known.items() if p.rpartition("#")[0] not in inside}
        photos = ((s.path, index.named(s), s.split) for s in index.samples)
        rows = ((*photo, known.get(photo[0], b"").hex()) for photo in photos)
        write_csv(self.path("index.csv"), ("path", "label", "split", "sha256"), rows)
        write_csv(self.path("skipped.csv"), ("path", "reason"), index.skipped)

    def photos(self, split: str) -> list[Path]:
        """Return the photos of a split as index.csv lists them; FILE#N for one in a container."""
        return [path for path, _ in self.labelled(split)]

    def labelled(self, split: str) -> list[tuple[Path, str]]:
        """Return the photos of a split with their classes' names; several labels are one cell."""
        root = Path(self.record["data"]["root"])
        return [(root / row["path"], row["label"]) for row in self.index() if row["split"] == split]

    def digests(self, split: str) -> list[str]:
        """Return the sha256 of each photo's content, in hex; empty for one in a container."""
        return [row.get("sha256") or "" for row in self.index() if row["split"] == split]

    def contents(self) -> dict[str, str]:
        """Return the sha256 of the content by path, in hex, of photos where it is written down."""
        if not self.path("index.csv").exists():
            return {}
        return {row["path"]: digest for row in self.index() if (digest := row.get("sha256"))}

    def index(self) -> Iterator[dict[str, str]]:
        """Return the rows of index.csv. Raises RunError."""
        return self.rows("index.csv", ("path", "label", "split"))

    def left_out(self) -> set[str]:
        """Return the paths in skipped.csv."""
        if not self.path("skipped.csv").exists():
            return set()
        return {row["path"] for row in self.rows("skipped.csv", ("path",))}

    def rows(self, name: str, needed: Iterable[str]) -> Iterator[dict[str, str]]:
        """Return the rows of a table of the run, which have these columns. Raises RunError."""
        path = self.path(name)
        try:
            with opened(path, TABLE) as raw, io.TextIOWrapper(raw, newline="", **TEXT) as file:
                reader = csv.reader(file)
                header = next(reader, [])
                for column in needed:
                    if column not in header:
                        raise RunError(f"{path} has no column {column!r}", EDITED)
                for cells in filter(None, reader):
                    cells += [""] * (len(header) - len(cells))
                    row = dict(zip(header, cells, strict=False))
                    if len(cells) > len(header) or "\0" in row.get("path", ""):
                        raise RunError(f"{path}, line {reader.line_num} is damaged", EDITED)
                    if "\\" in "".join(cells):
                        row = {column: read_name(cell) for column, cell in row.items()}
                    yield row
        except csv.Error as error:
            raise RunError(f"{path}, line {reader.line_num}: {error}", EDITED) from None
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}", EDITED) from None

    def log(self, record: Record) -> None:
        """Append one line to metrics.jsonl."""
        with writing(self.path("metrics.jsonl")), open(self.path("metrics.jsonl"), "a") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> list[Record]:
        """Return the lines of metrics.jsonl that are of an epoch. Raises RunError."""
        path, lines = self.path("metrics.jsonl"), []
        try:
            with opened(path, LINES) as file:
                written = file.read().decode(**TEXT).splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}", EDITED) from None
        for line in written:
            with suppress(ValueError):  # the last line of a run that lost its power
                epoch = records.from_json(line)
                records.EPOCH(epoch, "")
                lines.append(epoch)
        return lines

    def cut_metrics(self, epochs: int) -> None:
        """Drop the lines of epochs that a resumed run will do again."""
        kept = [json.dumps(line) + "\n" for line in self.metrics() if line["epoch"] <= epochs]
        with atomic(self.path("metrics.jsonl")) as file:
            file.write("".join(kept).encode())


def _no_run(folder: Path) -> RunError:
    """Return the error for what is no run folder; runs that lie in it are named."""
    why = "it has no run.json" if folder.exists() else "nothing is there"
    hint = "`zoo runs` lists the runs below a folder, `zoo finetune MODEL PHOTOS` makes one"
    if within := sorted(str(path.parent) for path in folder.glob("*/run.json")):
        hint = f"runs are in it: {shlex.join(within[:MOST])}" + " …" * (len(within) > MOST)
    return RunError(f"{folder} is not a run folder: {why}", hint)


class Seen(Run):
    """A run folder that another process works in, and only that one: nothing is written."""

    def _nothing(self, *_: object, **__: object) -> None:
        pass

    save = discard = save_index = log = cut_metrics = _nothing
