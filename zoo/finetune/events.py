"""What a fine-tune tells its Watch while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from zoo.head.rows import ALIKE
from zoo.head.temperature import Calibration
from zoo.train.records import Epoch, Scores
from zoo.watch import Watch


@dataclass(frozen=True, slots=True)
class FeaturesDone:
    """The feature pass is over: how many views were computed, how many came from the cache."""

    computed: int
    cached: int
    seconds: float
    bad: dict[str, str] = field(default_factory=dict)
    balance: str = ""  # what the photos left out have changed


@dataclass(frozen=True, slots=True)
class Tested:
    """What the test photos say, which have chosen nothing. ece: None of reconstructions."""

    scores: Scores
    photos: int
    ece: float | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is complete; `scores` are of the epoch that is kept, on the validation photos."""

    scores: Scores
    baseline: Baseline | None
    best_epoch: int
    agreement: float | None
    seconds: float
    calibration: Calibration | None = None
    evidence: tuple[Evidence, ...] = ()
    test: Tested | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a person should know."""

    text: str


def tell_if_alike(watch: Watch, spread: float) -> None:
    """Tell where the features of all photos are the same but for rounding."""
    if spread <= ALIKE:
        watch.tell(
            Note(
                f"the features of all photos are the same to {spread:.1g} of their size: the "
                "frozen part tells no photo from another, and no head on it can; give trained "
                "weights (--weights), or train all of it (--no-freeze)"
            )
        )


Event = Note | FeaturesDone | Epoch | Finished


@dataclass(frozen=True, slots=True)
class Evidence:
    """Accuracies of the repetitions; low and high: 95 % interval of their mean (Student's t).

    map: mean average precisions in their place, of several labels a photo.
    """

    kind: str
    accuracy: tuple[float, ...]
    map: tuple[float, ...]
    macro_f1: tuple[float, ...]
    mean: float
    deviation: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """mse: per value in [0, 1] of the validation photos, rebuilt from so many components."""

    components: int
    mse: float
