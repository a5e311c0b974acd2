"""Model: a network that answers, embeds and explains, opened once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

from zoo import catalog
from zoo.api.pictures import inputs_of
from zoo.api.rows import Embedding, Explanation, Prediction
from zoo.api.watching import Listener, OnEvent, working
from zoo.errors import ImageError, UsageError
from zoo.machine import cores

if TYPE_CHECKING:
    from os import PathLike

    from zoo.api.pictures import Pictures
    from zoo.engine import Calls
    from zoo.explain.answers import Seen
    from zoo.explain.places import Tapped
    from zoo.export.records import Exported, Rebuilt
    from zoo.network import Network
    from zoo.predict.embed import Embedder
    from zoo.predict.inputs import Input, Inputs
    from zoo.predict.policy import Doubt, Policy
    from zoo.predict.predictor import Opening
    from zoo.predict.rows import Predictor

Opened = TypeVar("Opened")
Found = TypeVar("Found")
Made = TypeVar("Made")
_AT_ONCE = 16  # pictures that are explained at a time


class Model:
    """A network that is ready to answer, as `zoo.load` returns it.

    What a method needs is opened when it is first called, and kept. Methods may be called from
    several threads at once, as a web server does it. The answers are those of the commands, to the
    last bit.
    """

    def __init__(self, name: str, how: Opening, on_event: OnEvent | None, force: bool) -> None:
        self.name = name
        self.on_event = on_event
        self._how, self._force = how, force
        self._opened: dict[object, object] = {}
        self._lock = threading.RLock()
        self._turns = threading.BoundedSemaphore(cores())  # each call fills a core, or all of them

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the network's outputs."""
        return self.predictor().classes

    @property
    def about(self) -> str:
        """What runs the network and where, in words."""
        return self.predictor().about

    def predict(
        self,
        pictures: Pictures,
        *,
        top: int = 1,
        reject_below: float | None = None,
        max_error: float | None = None,
        coverage: float | None = None,
        unknown: bool | float = False,
    ) -> list[Prediction]:
        """Return a row for each picture, in order: its class, or the error that took its place.

        pictures: a path (a folder, a file, a pattern), the bytes of a file, a PIL image, a uint8
        array of H x W x 3 or H x W, or a list of such. top: how many classes a row has, the
        likeliest first. reject_below: a probability below which no label is given. max_error: the
        same, chosen from the run's val photos so that at most this share of the answers is wrong.
        coverage: rows get a `set` of classes that holds the true one with this probability.
        unknown: no label for pictures like no training photo; as a number, the share of known ones
        that may be called so. Raises ZooError for what is no picture, or what the run lacks for it.

        >>> rows = run.predict(["photos/disc/00.png", "nowhere.jpg"], top=2)
        >>> rows[0].label, rows[1].status
        ('disc', 'error')
        """
        from zoo.predict.policy import Doubt

        if top < 1:
            raise UsageError(f"top={top} is no number of classes", "give 1 or more")
        rate = None if isinstance(unknown, bool) else unknown
        wanted = unknown is not False
        doubt = Doubt(reject_below, max_error, coverage, wanted, rate)
        doubt.must_fit()
        found, asked = inputs_of(pictures), self._policy(doubt)
        ours = self.predictor(found, features=wanted)
        asked = replace(asked, top=top)
        most = top if asked.limit is None else len(ours.classes)
        with self._working():
            rows = asked.applied(ours.rows(found.each, most))
            return self._counted(rows, found.total, Prediction.of)

    def embed(
        self, pictures: Pictures, *, stage: str | None = None, flat: bool = False
    ) -> list[Embedding]:
        """Return the features of each picture, D float32 numbers: what the head sees.

        pictures: as for `predict`. stage: another stage, as `layer3`; `zoo info MODEL` lists them.
        flat: all of an output of C x H x W, not its mean. Raises ZooError; an exported file has no
        stages.

        >>> [row.features.shape for row in run.embed("photos/disc/00.png")]
        [(84,)]
        """
        from zoo.predict.embed import Wanted, open_embedder

        found, listener = inputs_of(pictures), Listener(self.on_event)

        def opened() -> Embedder:
            return open_embedder(self.name, Wanted(stage, flat), self._how, listener.bytes)

        ours = self._once(("embed", stage, flat), opened)
        with self._working():
            return self._counted(ours.rows(found.each), found.total, Embedding.of)

    def explain(
        self,
        pictures: Pictures,
        classes: str | Sequence[str] | None = None,
        *,
        stage: str | None = None,
        occlusion: bool = False,
    ) -> list[Explanation]:
        """Return where in each picture the reason for its class is, by Grad-CAM.

        A row for each picture and class. classes: those to explain, else the network's answer.
        stage: where Grad-CAM looks, else the last stage whose output has places. occlusion: cover
        each part of the picture instead, which an exported file can do too, and takes longer.
        `row.picture()` is the photo with the map over it. Raises ZooError.

        >>> (row,) = run.explain("photos/disc/00.png")
        >>> row.label, row.heat.shape == row.pixels.shape[:2]
        ('disc', True)
        """
        from zoo.engine.pipeline import batched

        wanted = [classes] if isinstance(classes, str) else list(classes or [])
        found = inputs_of(pictures)
        some = self._covered if occlusion else self._seen
        tell, rows = Listener(self.on_event).progress, list[Explanation]()
        for batch in batched(found.each, 1 if occlusion else _AT_ONCE):
            with self._working():
                rows += some(batch, wanted, stage)
            tell("pictures", len(rows), found.total)
        return rows

    def export(
        self, format: str = "onnx", output: str | PathLike[str] | None = None
    ) -> Exported | Rebuilt:
        """Raises UsageError: a run alone is exported."""
        raise UsageError(
            f"{self.name} is no run, and only a run is exported",
            "`run = zoo.finetune(MODEL, PHOTOS)` makes one: `run.export()`",
        )

    # How work is done, and what is opened once.

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Wait for a turn: of calls from many threads as many work as there are cores."""
        with self._turns, working():
            yield

    def _counted(
        self, rows: Iterable[Found], total: int | None, made: Callable[[Found], Made]
    ) -> list[Made]:
        """Return the rows as the API has them; progress is told as they come."""
        listener, found = Listener(self.on_event), list[Made]()
        for row in rows:
            found.append(made(row))
            listener.progress("pictures", len(found), total)
        return found

    def _once(self, key: object, opens: Callable[[], Opened]) -> Opened:
        """Return what was opened under this key; open it the first time."""
        with self._lock:
            if key not in self._opened:
                with working():
                    self._opened[key] = opens()
            return cast(Opened, self._opened[key])

    def _policy(self, doubt: Doubt) -> Policy:
        """Return what becomes of answers. Raises UsageError, DataError."""
        from zoo.predict.policy import Doubt, check_several, made

        if doubt.below is not None and self.predictor().threshold is not None:
            check_several(self.name, f"reject_below={doubt.below:g}")
        told = replace(doubt, below=None)  # what is kept is what the run was asked for
        if told == Doubt():
            return made(self.name, doubt)[0]
        kept = self._once(told, lambda: made(self.name, told)[0])
        return kept if doubt.below is None else replace(kept, below=doubt.below)

    def predictor(
        self, found: Inputs | None = None, features: bool = False, calls: Calls = "many"
    ) -> Predictor:
        """Return what answers. found: pictures to measure a lower precision on, where it is no run.

        Raises DisagreementError where that answers otherwise too often, unless forced.
        """
        from zoo.predict import agreement, predictor
        from zoo.predict.inputs import Inputs

        how = replace(self._how, features=features, calls=calls)

        def opened() -> Predictor:
            exact = agreement.counts(self.name, how)
            photos = agreement.pictures_for(self.name, found or Inputs(iter(()))) if exact else []
            progress = Listener(self.on_event).bytes
            ours = predictor.open_predictor(self.name, how, photos, progress)
            if exact and not self._force:
                agreement.compared(self.name, how, exact, ours, photos).must_hold()
            return ours

        return self._once(("predict", features, calls), opened)

    def _network(self) -> tuple[Network, Callable[[str | None], Tapped]]:
        """Return the network where it runs, and what finds a stage in it."""
        from zoo.explain import places, saliency
        from zoo.predict.predictor import open_network

        if catalog.is_exported(self.name):
            raise UsageError(
                f"{self.name} is an exported file, which has no stages: Grad-CAM needs a run or a "
                "model",
                "name the run that it was exported from; `explain(…, occlusion=True)` takes a file",
            )

        def opened() -> Network:
            progress = Listener(self.on_event).bytes
            net, place, _ = open_network(self.name, self._how, progress)
            net.chain.eval().to(place.torch)
            saliency.must_have_classes(net)
            return net

        net = self._once("network", opened)
        return net, lambda stage: self._once(("tap", stage), lambda: places.tap(net, stage))

    # What explains a few pictures.

    def _seen(
        self, some: Sequence[Input], classes: Sequence[str], stage: str | None
    ) -> list[Explanation]:
        """Return the rows of Grad-CAM."""
        from zoo.explain import answers

        net, tap = self._network()
        wanted = answers.numbers(classes, net.classes, net.spec.num_classes)
        found = answers.by_gradcam(net, tap(stage), [one.source for one in some], wanted)
        return list(_rows(some, found, net.classes))

    def _covered(
        self, some: Sequence[Input], classes: Sequence[str], stage: str | None
    ) -> list[Explanation]:
        """Return the rows of occlusion."""
        from zoo.explain import answers

        if stage is not None:
            raise UsageError(f"stage={stage!r} with occlusion, which needs none", "leave it out")
        ours = self.predictor()
        wanted = answers.numbers(classes, ours.classes, len(ours.classes))
        how = (ours.preprocess, ours.of_views, wanted)
        found = [answers.by_occlusion(one.source, *how) for one in some]
        return list(_rows(some, found, ours.classes))


def _rows(
    some: Sequence[Input], found: Sequence[Seen], names: Sequence[str]
) -> Iterator[Explanation]:
    """Yield a row for each class of each picture, and one for a picture that cannot be read."""
    for one, seen in zip(some, found, strict=True):
        if isinstance(seen, ImageError):
            yield Explanation(one.file, "error", error=str(seen))
            continue
        pixels, told = seen
        for number, heat in told.maps:
            name = names[number] if names else f"class {number}"
            probability = float(told.probabilities[number])
            yield Explanation(one.file, "ok", name, probability, heat, pixels)
