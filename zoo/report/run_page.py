"""The page of a run: how good it is, what goes wrong, what to do next, how it was made.

What a person looks at photo by photo is of the val part: test photos that were looked at are none
any more. All small pictures are in the page once; what a cell, a row or a point of the map opens
is put together from them by the page's script.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.metrics import Array
from zoo.report import sections
from zoo.report.album import Album, seen
from zoo.report.answers import Answer, Chosen, by_label, chosen, matrix, read
from zoo.report.feature_map import Mapped, drawn
from zoo.report.page import small_picture, write_page
from zoo.run import Run
from zoo.text import count, percent

TEMPLATE = "report.html.j2"
AT_THE_END, FULL = 12, 16  # mistakes shown; of others half of that
PICTURES = {AT_THE_END: 48, FULL: 300}  # small pictures, those that cells open among them
# Gives for photos, each with the class that it was taken for, the view that the network had,
# uint8 S x S x C, and what of it speaks for the class, H x W of 0 to 1; None where there is none.
Looks = Callable[[Sequence[tuple[Path, str]]], Sequence[tuple[Array, Array] | None]]


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture, what an autoencoder gives back for it, both uint8 S x S x C, and the error."""

    path: str
    before: Array
    after: Array
    mse: float


@dataclass(frozen=True, slots=True)
class Extras:
    """What a page has beside the run's own record.

    command: what repeats the run, recipe: its settings as TOML. said: the run as a command line
    names it. steps: what to do next, commands between backticks. mapped: features of val photos.
    looks, looks_why: where the network looks, and how that is found. rebuilt: worst and best of an
    autoencoder. most: mistakes to show. missing: what is not drawn, and how to have it.
    """

    version: str
    command: str = ""
    recipe: str = ""
    said: str = ""
    steps: Sequence[str] = field(default_factory=tuple)
    mapped: Mapped | None = None
    looks: Looks | None = None
    looks_why: str = ""
    rebuilt: tuple[Sequence[Pair], Sequence[Pair]] = ((), ())
    most: int = FULL
    missing: Sequence[str] = field(default_factory=tuple)


def write(path: Path, run: Run, extras: Extras) -> None:
    """Write the page of a finished run. Raises RunError, WriteError."""
    write_page(path, TEMPLATE, **_Page(run, extras).values())


class _Page:
    """Puts the values of the template together."""

    def __init__(self, run: Run, extras: Extras) -> None:
        self.run, self.extras, self.record = run, extras, run.record
        self.task = run.record.get("task", "classify")
        self.answers = read(run)
        self.album = Album(Path(run.record["data"]["root"]))
        self.chosen = chosen(self.answers, extras.most)
        self.seen: dict[int, str] = {}  # by number of the answer

    def values(self) -> dict[str, Any]:
        """Return all that the template names."""
        run, extras, record = self.run, self.extras, self.record
        there = self._look_for_photos()
        matrix = self._matrix()
        labels = self._labels()
        mapped = drawn(extras.mapped, self.answers) if extras.mapped else None
        if there:
            self._fill(matrix, labels, mapped["numbers"] if mapped else [])
        return {
            "version": extras.version,
            "title": f"{record['model']} on {Path(record['data']['root']).name}",
            "run": str(run.folder),
            "task": self.task,
            "verdict": sections.verdict(run),
            "steps": [text[:1].upper() + text[1:] for text in extras.steps],
            "wrong": sum(not answer.right for answer in self.answers),
            "kept": bool(record.get("linear_head")),
            "plan": record.get("plan", []),
            "data": sections.data(run),
            "moved": "" if there else str(self.album.root),
            "galleries": self._galleries() if there else [],
            "rebuilt": self._rebuilt(),
            "matrix": matrix,
            "table": sections.classes(run) if self.task != "reconstruct" else None,
            "labels": labels,
            "curves": sections.curves(run),
            "penalty": record.get("penalty"),
            "doubt": sections.doubt(self.answers) if self.task == "classify" else [],
            "calibration": record.get("calibration"),
            "map": mapped,
            "photos": self._photos(matrix, labels, mapped["numbers"] if mapped else []),
            "exports": sections.exports(run),
            "command": extras.command,
            "recipe": extras.recipe,
            "missing": [*extras.missing],
            "looks_why": extras.looks_why if extras.looks and there else "",
            "seconds": record.get("seconds"),
        }

    def _look_for_photos(self) -> bool:
        """Read the photos of the galleries; return whether any is where it was."""
        paths = [self.answers[k].path for k in self.chosen.all]
        if not paths:
            return True
        if not self.album.is_there(paths):
            return False
        self.album.add(paths)
        self._look()
        return True

    def _look(self) -> None:
        """Draw where the network looks in the photos of the galleries."""
        if self.extras.looks is None:
            return
        pictures = self.album.pictures
        some = [k for k in self.chosen.all if self.answers[k].path in pictures]
        some = [k for k in some if self.answers[k].predicted]
        asked = [
            (self.album.root / self.answers[k].path, self.answers[k].predicted[0]) for k in some
        ]
        for k, found in zip(some, self.extras.looks(asked), strict=True):
            if found is not None:
                self.seen[k] = seen(*found)

    def _matrix(self) -> dict[str, Any] | None:
        if self.task != "classify" or not self.answers:
            return None
        found = matrix(self.answers, self.record["classes"])
        rows = [
            {"name": name, "cells": [
                {"count": cell.count, "share": round(100 * cell.share), "answers": cell.answers,
                 "said": said, "right": name == said}
                for said, cell in zip(found.classes, cells, strict=True)
            ]}
            for name, cells in zip(found.classes, found.cells, strict=True)
        ]  # fmt: skip
        return {"classes": found.classes, "rows": rows, "of": found.of,
                "covered": found.covered, "mistakes": found.mistakes}  # fmt: skip

    def _labels(self) -> list[dict[str, Any]]:
        """Return for each class of several labels the photos that were missed or told wrongly."""
        if self.task != "multilabel":
            return []
        rows = []
        for name in self.record["classes"]:
            missed, wrongly = by_label(self.answers, name)
            if missed or wrongly:
                rows.append({"name": name, "missed": missed[:24], "wrongly": wrongly[:24],
                             "counts": (len(missed), len(wrongly))})  # fmt: skip
        return sorted(rows, key=lambda row: -sum(row["counts"]))[: sections.ROWS]

    def _fill(
        self, matrix: dict[str, Any] | None, labels: list[dict[str, Any]], points: Sequence[int]
    ) -> None:
        """Read what is opened by cells, mistakes before hits, then what the map shows."""
        cells = [cell for row in (matrix or {"rows": []})["rows"] for cell in row["cells"]]
        lists = [cell["answers"] for cell in sorted(cells, key=lambda cell: cell["right"])]
        lists += [row[kind] for row in labels for kind in ("missed", "wrongly")]
        turns = (each[n] for n in range(24) for each in lists if n < len(each))
        room = PICTURES.get(self.extras.most, FULL) - len(self.album.pictures)
        wanted = list(dict.fromkeys((*turns, *points)))
        fresh = [k for k in wanted if self.answers[k].path not in self.album.pictures]
        self.album.add(self.answers[k].path for k in fresh[: max(0, room)])

    def _photos(
        self, matrix: dict[str, Any] | None, labels: list[dict[str, Any]], points: Sequence[int]
    ) -> dict[int, list[str]]:
        """Return for the page's script, by number: path, lines, and a picture that is nowhere else.

        A photo of a gallery has its picture there.
        """
        cells = [cell for row in (matrix or {"rows": []})["rows"] for cell in row["cells"]]
        wanted = [k for cell in cells for k in cell["answers"]] + [*points]
        wanted += [k for row in labels for kind in ("missed", "wrongly") for k in row[kind]]
        in_gallery = set(self.chosen.all)
        found = {}
        for k in dict.fromkeys(wanted):
            answer = self.answers[k]
            picture = "" if k in in_gallery else self.album.pictures.get(answer.path, "")
            found[k] = [answer.path, *self._said(answer), picture,
                        self.album.errors.get(answer.path, "")]  # fmt: skip
        return found

    def _said(self, answer: Answer) -> tuple[str, str]:
        """Return what a photo is and what it was taken for, as two lines."""
        label = ", ".join(answer.label) or "no label"
        told = ", ".join(answer.predicted) or "no label"
        sure = percent(answer.probability).replace(" ", "\N{NO-BREAK SPACE}")
        return label, f"right, {sure}" if answer.right else f"taken for {told}, {sure}"

    def _galleries(self) -> list[dict[str, Any]]:
        picked: Chosen = self.chosen
        every = (
            ("mistakes", "The surest mistakes", "What the run is surest of, and wrong. Labels that "
             "are wrong gather here, and what really looks alike.", picked.mistakes),
            ("uncertain", "Least certain", "Where it wavers most, right or wrong.",
             picked.uncertain),
            ("correct", "Surely right", "The surest of each class in turn: does it look at the "
             "thing itself?", picked.correct),
        )  # fmt: skip
        return [
            {"id": name, "title": title, "about": about, "tiles": [self._tile(k) for k in numbers]}
            for name, title, about, numbers in every
            if numbers
        ]

    def _tile(self, k: int) -> dict[str, Any]:
        answer = self.answers[k]
        label, told = self._said(answer)
        picture = self.album.pictures.get(answer.path, "")
        tile = {
            "photo": k,
            "picture": picture,
            "alt": f"{answer.path}: {label}, {told}",
            "lines": [label, told, _name(answer.path)],
            "wrong": not answer.right,
            "error": self.album.errors.get(answer.path, ""),
            "beside": "",
        }
        if k in self.seen:
            tile |= {"beside": self.seen[k], "beside_alt": f"what speaks for {answer.predicted[0]}"}
        return tile

    def _rebuilt(self) -> list[dict[str, Any]]:
        """Return what an autoencoder gives back: the worst and the best of those looked at."""
        from PIL import Image

        titles = ("Given back worst", "Given back best")
        galleries = []
        for title, pairs in zip(titles, self.extras.rebuilt, strict=True):
            tiles = [
                {
                    "photo": "",
                    "picture": small_picture(Image.fromarray(pair.before.squeeze())),
                    "beside": small_picture(Image.fromarray(pair.after.squeeze())),
                    "alt": f"{pair.path} as it is",
                    "beside_alt": "as it is given back",
                    "lines": [f"MSE {pair.mse:.5f}", _name(pair.path)],
                    "wrong": False,
                    "error": "",
                }
                for pair in pairs
            ]
            if tiles:
                about = f"{count(len(tiles), 'picture')}: as it is, and as it comes back."
                galleries.append({"id": "", "title": title, "about": about, "tiles": tiles})
        return galleries


def _name(path: str) -> str:
    """Return what a photo is called below its picture; of one in a container its number."""
    name = Path(path).name
    return f"#{name.rpartition('#')[2]}" if "#" in name else name
