"""What is asked for of an export, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.engine import Array
    from zoo.head.distance import Distance

Say = Callable[[str], None]
Fields = dict[str, Any]  # of a record below, by name


def silent(text: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Tail:
    """A run's distance and limit. own: what the run finds for pixels N S S C. head: its stage."""

    distance: Distance
    limit: float
    own: Callable[[Array], Array]
    head: str

    @property
    def metadata(self) -> dict[str, str]:
        return {"zoo.distance_limit": f"{self.limit:.9g}"}


@dataclass(frozen=True, slots=True)
class Shape:
    """The only pictures that a file takes: so many a call, of one height and width; None: any."""

    batch: int | None = None
    height: int | None = None
    width: int | None = None

    def __str__(self) -> str:
        sides = f"{self.height}x{self.width}" if self.height else "any"
        return sides + (f"-batch{self.batch}" if self.batch else "")


@dataclass(frozen=True, slots=True)
class Order:
    """Which file is to be written, and on which photos it is proved.

    kind: `image` for raw pictures of any size, `tensor` for the bare network. most: so many of the
    photos at most, else what each kind of export takes. force: a file that too often answers
    otherwise than its run is taken all the same. say: is told what is being done. tail: the
    distance from the training photos, as one more output. shape: see Shape.
    """

    photos: Sequence[Path]
    destination: Path
    kind: str = "image"
    most: int | None = None
    force: bool = False
    say: Say = silent
    tail: Tail | None = None
    shape: Shape | None = None

    def written(self) -> Fields:
        """Return what a record says of the file, once it is there."""
        file = self.destination
        return {"path": str(file), "bytes": file.stat().st_size, "input": self.kind}


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported file and the proof that it agrees with its run.

    reference: what it was compared with: `torch`, the run's network computed anew, or `val.csv`,
    the labels and probabilities (of the answers alone) that the run wrote down in training.
    network_diff: largest difference of a class score of the bare network, relative to the largest
    score; beside val.csv, of a probability, with the Preprocess where that is as exact; on
    network_photos of the photos.
    max_diff, mean_diff: of a probability, from raw pixels; beside val.csv of every second photo,
    where the others' raw pixels come to those that the run saw, which the file is given then.
    agree of photos: equal top-1, or with several labels a picture all of them equal. All of it
    beside the run in fp32, in which the file computes; where the run predicts in another precision,
    agree_run is the agreement with that.

    computes: fp32, fp16 or int8. A file of another format than ONNX is compared with the run's ONNX
    file: agree, max_diff, mean_diff; network_diff is that file's. One in int8 is measured and not
    proved: agree, max_diff and mean_diff are beside the same network in fp32, whose network_diff
    is beside the run. calibrated: photos that its ranges were measured on. accuracy,
    accuracy_fp32: on those photos with a known class.

    odd_photos: of odd sizes and kinds (see zoo.export.contract), on which the file is beside its
    own network: odd_agree with the same pixels for the network (see `contract.apart`), or else
    with an equal answer; odd_max_diff of a probability where pixels are others, on odd_worst.
    distance_diff: by which share a distance from the training photos differs at most.
    latency_ms: of one picture on one core, decoded already, by the runtime that opens the file.
    sha256: of the file; of a folder there is none.
    """

    path: str
    bytes: int
    input: str
    photos: int
    network_diff: float
    max_diff: float
    mean_diff: float
    agree: int
    runtime: str
    precision: str = "fp32"
    agree_run: int | None = None
    reference: str = "torch"
    computes: str = "fp32"
    calibrated: int | None = None
    accuracy: float | None = None
    accuracy_fp32: float | None = None
    network_photos: int | None = None
    odd_photos: int | None = None
    odd_agree: int | None = None
    odd_max_diff: float | None = None
    odd_worst: str | None = None
    distance_diff: float | None = None
    latency_ms: float | None = None
    sha256: str | None = None

    def to_dict(self) -> Fields:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """An exported autoencoder and the proof that it agrees with its run.

    network_diff: largest difference of a value of picture or code for the same input, relative to
    the largest value. max_diff, mean_diff: of a reconstruction's values, code_diff: largest of a
    code's, relative to its largest; all three from raw pixels. odd_max_diff: of a reconstruction's
    values on photos of odd sizes and kinds (see zoo.export.contract). In fp32, in which the file
    computes; precision is the run's own.
    """

    path: str
    bytes: int
    input: str
    photos: int
    network_diff: float
    max_diff: float
    mean_diff: float
    code_diff: float
    runtime: str
    precision: str = "fp32"
    odd_max_diff: float | None = None
    sha256: str | None = None

    def to_dict(self) -> Fields:
        return asdict(self)
