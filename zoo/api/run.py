"""Run: a run folder that is complete, with its figures, as a Model that can be exported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.api.model import Model
from zoo.api.pictures import inputs_of
from zoo.api.watching import Listener, OnEvent, working
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.api.pictures import Pictures
    from zoo.export.records import Exported, Rebuilt
    from zoo.metrics import ClassScore, LabelScore
    from zoo.predict.predictor import Opening
    from zoo.run import Run as Folder


@dataclass(frozen=True, slots=True)
class Report:
    """How good a run is on photos that have trained nothing.

    part: `test` where the photos have such a part, else `val`, which has chosen settings. What a
    kind of run does not have is None. classes: a row for each class, ready for pandas.
    """

    part: str
    accuracy: float | None
    macro_f1: float | None
    map: float | None
    exact: float | None
    mse: float | None
    classes: tuple[ClassScore | LabelScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return its fields by name, ready for JSON."""
        return asdict(self)


class Run(Model):
    """A finished run, as `zoo.finetune` and `zoo.load` return it: a Model with its figures."""

    def __init__(self, run: Folder, how: Opening, on_event: OnEvent | None, force: bool) -> None:
        super().__init__(str(run.folder), how, on_event, force)
        self._run = run

    def __repr__(self) -> str:
        figures, names = self.report, ("accuracy", "map", "mse")
        known = [(name, getattr(figures, name)) for name in names]
        score = next((f", {name} {value:.4g}" for name, value in known if value is not None), "")
        return f"Run({self.name!r}, {self._run.record['model']}{score})"

    @property
    def folder(self) -> Path:
        """The run folder, which every command takes."""
        return self._run.folder

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says: what was trained on what, every choice with its reason."""
        return self._run.record

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the network's outputs."""
        return tuple(self._run.record.get("classes", ()))

    @property
    def accuracy(self) -> float | None:
        """The share of right answers on the test photos, else on the val photos.

        None of runs that tell several labels, or give pictures back: see `report`.

        >>> 0.5 < run.accuracy <= 1
        True
        """
        return self.report.accuracy

    @property
    def report(self) -> Report:
        """How good the run is, with a score for each class.

        >>> [row.name for row in run.report.classes]
        ['disc', 'square', 'stripes']
        """
        from zoo.metrics import ClassScore, LabelScore

        record = self._run.record
        found: dict[str, Any] = record.get("test") or record.get("results") or {}
        rows = found.get("classes") or record.get("classes_table") or []
        classes = (LabelScore(**row) if "ap" in row else ClassScore(**row) for row in rows)
        figures = {
            name: found.get(name) for name in ("accuracy", "macro_f1", "map", "exact", "mse")
        }
        part = "test" if record.get("test") else "val"
        return Report(part=part, classes=tuple(classes), **figures)

    def page(self, output: str | os.PathLike[str] | None = None) -> Path:
        """Write the page of the run, with its photos in it, and return where it is.

        output: an .html file, else report.html in the run folder. It is what `zoo report` writes:
        how good the run is, what goes wrong, what to do next. Raises ZooError.

        >>> run.page("shapes.html").exists()
        True
        """
        from zoo.api import page
        from zoo.predict import writers

        place = self._run.path("report.html") if output is None else Path(output)
        writers.check(place, (".html", ".htm"), "output")
        with self._lock, working():
            page.written(place, self._run, self._how.trusts, Listener(self.on_event))
        return place

    def export(
        self,
        format: str = "onnx",
        output: str | os.PathLike[str] | None = None,
        *,
        input: str = "image",
        int8: bool = False,
        fp16: bool = False,
        size: tuple[int, int] | None = None,
        batch: int | None = None,
        unknown: bool = False,
        photos: Pictures | None = None,
    ) -> Exported | Rebuilt:
        """Write the run as one file and return the proof that it gives the same answers.

        format: a word behind `zoo export`: onnx, openvino, torch-export or hf; what is said of the
        file is of onnx alone. output: the file, else its usual name in the run folder. input:
        `image`, the file takes uint8 RGB of any size; `tensor`, what the network takes. int8, fp16:
        what it computes in, measured beside fp32. size: height and width, batch: how many pictures
        it takes, and no others. unknown: one more output, the distance from the training
        photos. photos: to compare on, else the run's val photos. Raises ZooError; where file and
        run differ there is no file.

        >>> proof = run.export("onnx", "shapes.onnx")
        >>> proof.agree == proof.photos
        True
        """
        from zoo.export import run_file
        from zoo.export.formats import Wanted
        from zoo.export.records import Order, Shape
        from zoo.finetune.events import Note
        from zoo.predict import writers

        if input not in ("image", "tensor"):
            raise UsageError(f"input={input!r}: there is no such input", "give image or tensor")
        shape = None
        if size is not None or batch is not None:
            shape = Shape(batch, *(size or ()))
        wanted = Wanted(input, int8, unknown, format, fp16, shape)
        place = run_file.place_of(self._run, wanted)
        place = place if output is None else Path(output)
        if wanted.row.suffix:
            writers.check(place, (wanted.row.suffix,), "output")
        compared: Sequence[Path] = run_file.photos_of(self._run)
        if photos is not None:
            compared = [Path(one.file) for one in inputs_of(photos).each]
        tell = Listener(self.on_event).tell
        order = Order(compared, place, force=self._force, say=lambda text: tell(Note(text)))
        with self._lock, working():
            return run_file.write(self._run, wanted, order)
