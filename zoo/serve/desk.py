"""The queue of a server: pictures wait, are decoded in threads, and are answered.

On a CPU each picture is a call of its own, in the thread that decoded it: for MobileNetV2,
SqueezeNet, ResNet-18 and ResNet-50 that takes no more processor time a picture than calls of four
(AlexNet, whose weights are read at each call, half as much again), and the answer does not depend
on who asks beside it. A picture that is alone in the house has all cores: the same graph in a
second session, which gives the same bits. On a GPU what is decoded by then shares a call.

Decoding has threads of its own: a photo that takes ten seconds holds up no other one.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np

from zoo.api.model import Model
from zoo.engine import Array
from zoo.engine.pipeline import attempt
from zoo.errors import ImageError, ZooError
from zoo.predict.inputs import Input
from zoo.predict.rows import Prediction, Predictor

MORE = 6  # threads that decode, beside one for each of the engine's


@dataclass(slots=True)
class _Job:
    """A picture that somebody waits for, and how many classes its row has."""

    item: Input
    top: int
    future: Future[Prediction] = field(default_factory=Future)


class Desk:
    """Answers pictures in the order in which they are ready, `most` of them waiting at a time."""

    def __init__(self, model: Model, most: int) -> None:
        """Open the network, and compile it by a first picture. Raises ZooError."""
        from PIL import Image

        self.model, self.most = model, most
        self.predictor = model.predictor(calls="single")
        self._whole: Predictor | None = None  # for a picture that is alone
        self.waiting = self.answered = 0
        self._ready: deque[tuple[_Job, Array]] = deque()
        self._lock = threading.Lock()
        engine = self.predictor.engine
        self._engines = ThreadPoolExecutor(engine.workers, "serve-engine", engine.start_worker)
        self._alone = threading.BoundedSemaphore(engine.workers) if engine.batch == 1 else None
        begin = engine.start_worker if self._alone else None
        self._decoders = ThreadPoolExecutor(engine.workers + MORE, "serve-decode", begin)
        self._explaining = ThreadPoolExecutor(1, "serve-explain")
        self.page_seen = self.prepared = False
        first = self.predictor.load(Image.new("RGB", (64, 64)))[None]
        self._engines.submit(self.predictor.scores, first).result()
        if self._alone and not engine.name.startswith("torch"):
            self._explaining.submit(self._open_whole, first)

    def _open_whole(self, first: Array) -> None:
        """Open the network once more, for one picture at a time on all cores."""
        with suppress(ZooError):
            whole = self.model.predictor(calls="alone")
            whole.scores(first)
            self._whole = whole

    def prepare(self) -> None:
        """Load torch and the network for Grad-CAM, once, beside the answers.

        It takes seconds and some 400 MB, so it is for whoever has seen the page, which has a button
        for it, and after an answer, which has the processor to itself until then.
        """
        from PIL import Image

        if self.page_seen and not self.prepared:
            self.prepared = True
            self._explaining.submit(self.model.explain, Image.new("RGB", (64, 64)))

    def has_room(self, count: int) -> bool:
        """Return whether so many pictures more may wait."""
        return self.waiting + count <= self.most

    def row(self, item: Input, top: int) -> Future[Prediction]:
        """Return the row that a picture will have."""
        job = _Job(item, top)
        self._count(job.future)
        self._decoders.submit(self._decode, job)
        return job.future

    def explained(self, item: Input, label: str | None) -> Future[bytes]:
        """Return the PNG of a picture with the places that speak for a class, by Grad-CAM.

        label: the class, else the network's answer. Raises ImageError, UsageError.
        """

        def drawn() -> bytes:
            (row,) = self.model.explain([item.source], label)
            file = BytesIO()
            row.picture().save(file, "PNG")
            return file.getvalue()

        future = self._explaining.submit(drawn)
        self._count(future)
        return future

    def close(self) -> None:
        """End the threads; what waits is not answered any more."""
        for pool in (self._decoders, self._engines, self._explaining):
            pool.shutdown(wait=False, cancel_futures=True)

    def _count(self, future: Future[Prediction] | Future[bytes]) -> None:
        """Count a picture as waiting until its future is done."""

        def done(_: object) -> None:
            with self._lock:
                self.waiting, self.answered = self.waiting - 1, self.answered + 1

        with self._lock:
            self.waiting += 1
        future.add_done_callback(done)

    def _decode(self, job: _Job) -> None:
        """Decode a picture, and leave it to the engine; one that nobody waits for is left out."""
        pixels: Array | ImageError | None = None
        try:
            if job.future.set_running_or_notify_cancel():
                pixels = attempt(self.predictor.load, job.item.source)
        except BaseException as error:  # is raised where the row is waited for
            job.future.set_exception(error)
        if isinstance(pixels, ImageError):
            job.future.set_result(self.predictor.row(job.item, pixels))
        elif pixels is not None and self._alone:
            with self._alone:
                self._answer([(job, pixels)])
        elif pixels is not None:
            self._ready.append((job, pixels))
            self._engines.submit(self._batch)

    def _batch(self) -> None:
        """Answer as many pictures as a call of the engine takes, if there are any left."""
        size = self.predictor.engine.batch
        with self._lock:
            some = [self._ready.popleft() for _ in range(min(size, len(self._ready)))]
        if some:
            self._answer(some)

    def _answer(self, some: list[tuple[_Job, Array]]) -> None:
        """Give pictures their rows, by one call of the engine."""
        try:
            alone = self._whole if self.waiting == 1 else None
            predictor = alone or self.predictor
            told = predictor.scores(np.stack([pixels for _, pixels in some]))
            for (job, _), scores in zip(some, told, strict=True):
                job.future.set_result(self.predictor.row(job.item, scores, job.top))
        except BaseException as error:
            for job, _ in some:
                if not job.future.done():
                    job.future.set_exception(error)
