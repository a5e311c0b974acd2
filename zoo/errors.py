"""Every error a user can meet, as one tree.

ZooError                 what went wrong, a hint (what to do), and the command that goes on
├── UsageError           exit 2: the words of the command
│   ├── MissingPackage       a package of an extra that is not installed
│   ├── UnknownModel         no such model; nearest names
│   ├── UnknownStage         no such stage in this chain; the list
│   ├── NoClasses            a network that gives features, or pictures back, is asked for classes
│   └── RecipeError          settings that do not fit, all at once
├── InputError           exit 2: what the command was given
│   ├── DataError            the folder of photos
│   ├── ImageError           one file that is not a readable image
│   ├── WeightsError         a weights file that is missing, foreign or damaged
│   │   └── ReaderDied           exit 3: the process that read it was killed at a limit
│   └── RunError             a run folder that exists, is missing or is unfinished
├── WriteError           exit 4: a place that cannot be written
│   ├── DiskFull             exit 5: for want of room; what was unfinished can be resumed
│   └── CacheError           exit 4: and it is the cache
├── IncompleteError      exit 8: parts of a job are missing or damaged
├── ParityError          exit 1: an exported file disagrees with its run
├── DisagreementError    exit 1: a lower precision answers too often otherwise than fp32
├── ConversionError      exit 1: a chain that another engine cannot run, or not as torch does
├── OutOfMemory          exit 1: not one photo fits; the run can be resumed elsewhere
├── TrainingError        exit 6: training has diverged and cannot go on
├── TeamError            exit 1, or that of the process of torchrun's that failed first
└── Interrupted          exit 130 or 143: stopped by a signal, can be resumed
"""

from __future__ import annotations

from collections.abc import Iterable


class ZooError(Exception):
    """What went wrong (with the value) and a hint (what would be right, what to do).

    resume: the command that goes on with the work that was begun; empty where there is none.
    """

    exit_code = 1

    def __init__(self, what: str, hint: str = "", resume: str = "") -> None:
        super().__init__(what)
        self.what, self.hint, self.resume = what, hint, resume

    @property
    def advice(self) -> str:
        """Return the hint, and behind it the command that goes on with the work."""
        return ", then ".join(filter(None, (self.hint, self.resume and f"`{self.resume}` goes on")))

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        """What Python shows below the error in a traceback."""
        return [f"hint: {self.advice}"] if self.advice else []


class UsageError(ZooError):
    exit_code = 2


class MissingPackage(UsageError):
    pass


class UnknownModel(UsageError):
    pass


class UnknownStage(UsageError):
    pass


class NoClasses(UsageError):
    pass


class RecipeError(UsageError):
    pass


class InputError(ZooError):
    exit_code = 2


class DataError(InputError):
    pass


class ImageError(InputError):
    pass


class WeightsError(InputError):
    pass


class ReaderDied(WeightsError):
    exit_code = 3


class RunError(InputError):
    pass


class WriteError(ZooError):
    exit_code = 4


class DiskFull(WriteError):
    """There is no room. room: what makes some, for work that cannot choose another place."""

    exit_code = 5

    def __init__(self, what: str, hint: str = "", room: str = "") -> None:
        super().__init__(what, hint)
        self.room = room or hint


class CacheError(WriteError):
    pass


class IncompleteError(ZooError):
    exit_code = 8


class ParityError(ZooError):
    pass


class DisagreementError(ZooError):
    pass


class ConversionError(ZooError):
    pass


class OutOfMemory(ZooError):
    pass


class TrainingError(ZooError):
    exit_code = 6


class TeamError(ZooError):
    """Another process of the training is gone; without words where that one has said why."""

    def __init__(self, what: str, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(what, hint)
        self.exit_code = exit_code


class Interrupted(ZooError):
    """Stopped by a signal at a point from which the work can go on."""

    def __init__(self, what: str, hint: str = "", signal_number: int = 2) -> None:
        super().__init__(what, hint)
        self.signal_number, self.exit_code = signal_number, 128 + signal_number


PART = 0.74  # how like the beginning of a longer word must be


def nearest(word: str, known: Iterable[str], count: int = 3, least: float = 0.51) -> str:
    """Return `did you mean a, b?` for the known words closest to this one, or nothing.

    As close as a word that is like it are longer ones that begin like it or have it in them:
    rezn is resnet50, and dino vit_small_patch14_dinov2. least: how like a whole word must be.
    """
    near = []
    for name in dict.fromkeys(known):
        whole, part = _likeness(word.lower(), name.lower())
        if whole >= least or part >= PART:
            near.append((max(whole, part), whole, name))
    near.sort(key=lambda one: one[:2], reverse=True)  # of equals the first known stays the first
    return f"did you mean {', '.join(name for *_, name in near[:count])}?" if near else ""


def _likeness(word: str, name: str) -> tuple[float, float]:
    """Return how like a word is to a name, and to the beginning of a longer one: 0 to 1."""
    from difflib import SequenceMatcher  # not for a command that is typed rightly

    match = SequenceMatcher(None, "", word, autojunk=False)

    def ratio(other: str) -> float:
        match.set_seq1(other)
        return match.ratio() if match.quick_ratio() >= 0.5 else 0.0

    part = 0.0
    if len(name) > len(word) > 2:
        cuts = range(len(word), min(len(name), len(word) + 2))
        part = 1.0 if word in name else max(ratio(name[:cut]) for cut in cuts)
    return ratio(name), part


def or_nearest(what: str, word: str, known: Iterable[str]) -> str:
    """Return what is wrong, and behind it the known words that are closest, if there are any."""
    return "; ".join(filter(None, (what, nearest(word, known))))


# What other tools call a value of ours, by the name of the flag or setting.
_THEIRS: dict[str, dict[str, str]] = {
    "engine": {"onnxruntime": "onnx ort onnxrt", "openvino": "ov intel vino ie",
               "torch": "pytorch eager libtorch"},
    "precision": {"bf16": "fp16 half float16 16 amp mixed bfloat16", "int8": "8 8bit uint8 qint8",
                  "fp32": "float32 32 full float single tf32 fp64"},
    "device": {"cuda": "gpu nvidia", "mps": "metal apple", "cpu": "-1 none"},
    "map": {"tsne": "t-sne umap"},
    "part": {"val": "validation valid dev eval", "test": "testing", "train": "training"},
    "sort": {"acc1": "accuracy acc top1 top-1", "acc5": "top5 top-5", "macs": "flops gflops gmacs",
             "size": "bytes file mb", "params": "parameters"},
    "task": {"classify": "classification", "multilabel": "multi-label tags",
             "reconstruct": "autoencoder reconstruction"},
    "optimizer": {"adamw": "lamb lion nadam radam rmsprop", "sgd": "momentum nesterov",
                  "lbfgs": "l-bfgs newton"},
    "schedule": {"exponential": "exp step multistep", "cosine": "cos onecycle one-cycle linear",
                 "constant": "none fixed flat"},
    "loss": {"cross_entropy": "ce crossentropy cross-entropy focal nll softmax",
             "bce": "binary", "mae": "l1", "mse": "l2"},
    "head": {"mlp:512": "mlp", "knn:20": "knn", "linear": "logistic fc", "prototype": "ncm"},
}  # fmt: skip


def meant(name: str, value: object, known: Iterable[str] = ()) -> str:
    """Return `did you mean bf16?` for another tool's value of a setting, or a slip; or nothing."""
    word = str(value).lower()
    if name == "device" and word.isdecimal():
        return f"did you mean cuda:{word}?"
    for ours, theirs in _THEIRS.get(name, {}).items():
        if word in theirs.split():
            return f"did you mean {ours}?"
    return nearest(word, known, 1)


def first_line(error: BaseException) -> str:
    """Return the first line of what a library's error says, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
