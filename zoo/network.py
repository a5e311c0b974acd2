"""A chain with its weights, its Preprocess and its classes: from a name, or from a run folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import catalog, weights
from zoo.catalog import ModelSpec, Preprocess, Weights
from zoo.device import seed_all
from zoo.errors import RunError, WeightsError
from zoo.run import Run

if TYPE_CHECKING:
    from torch import nn

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Network:
    """chain: eval-ready. origin: where the weights are from, as it stands in run.json.

    row: of the model as the catalogue or its library has it. spec: the row of this very chain,
    whose head may be another.
    """

    row: ModelSpec
    spec: ModelSpec
    chain: nn.Sequential
    preprocess: Preprocess
    classes: tuple[str, ...]
    origin: dict[str, Any]
    agreement: float | None = None  # with fp32, of a run in another precision

    @property
    def trained(self) -> bool:
        return bool(self.origin["tag"] != "none")


def pretrained(
    name: str,
    choice: str | None = None,
    *,
    except_head: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Network:
    """A model of the catalogue or of a library with the weights that `--weights` names.

    except_head: a file whose head has other classes will do. `none` draws the weights from the
    seed. Raises UnknownModel and WeightsError.
    """
    from zoo import models

    spec = models.resolve(name)
    chosen = weights.choose(spec, choice)
    if isinstance(chosen, Path) and is_run_file(chosen):
        return of_run(Run.open(chosen.parent).finished(), expected=name)
    if chosen is None and choice is None:
        raise WeightsError(
            f"{name} has no pretrained weights",
            f"give some with --weights FILE or RUN, or train it from scratch: "
            f"`zoo finetune {name} PHOTOS --no-freeze --weights none`",
        )
    seed_all("weights", seed)
    chain = models.build(spec)
    if chosen is None:
        return Network(spec, spec, chain, spec.preprocess, (), {"tag": "none", "seed": seed})
    if isinstance(chosen, Weights):
        path = weights.find(chosen, progress=progress)
        weights.load(chain, spec, path, except_head=except_head)
        origin = {"tag": chosen.tag, "file": chosen.file, "licence": chosen.licence}
        names = class_names(chosen.classes, spec.num_classes)
        return Network(spec, spec, chain, chosen.preprocess, names, origin)
    weights.load(chain, spec, chosen, except_head=except_head)
    preprocess = spec.default_weights.preprocess if spec.default_weights else spec.preprocess
    listed = spec.default_weights.classes if spec.default_weights else ""
    names = class_names(listed, spec.num_classes)
    origin = {"tag": "file", "file": str(chosen.absolute())}
    return Network(spec, spec, chain, preprocess, names, origin)


def is_run_file(path: Path) -> bool:
    """Whether this is the network of a run, and not another file that lies beside a run.json."""
    return path.name == "model.safetensors" and (path.parent / "run.json").exists()


def class_names(listed: str, count: int) -> tuple[str, ...]:
    """The names of a list of the catalogue, or numbers where there is no such list."""
    from zoo.catalog import classes
    from zoo.errors import ZooError

    try:
        return classes.names(listed)
    except ZooError:
        return tuple(str(number) for number in range(count))


def of_run(run: Run, expected: str | None = None) -> Network:
    """The network that a finished run saved. Raises RunError where it is of another model."""
    from zoo import models

    about = run.record
    if expected is not None and about["model"] != expected:
        raise RunError(
            f"{run.folder} is a run of {about['model']}, not of {expected}",
            f"`zoo finetune {about['model']} …`, or give weights of {expected}",
        )
    row = recorded(about)
    seed_all("weights", 0)
    chain, spec = with_head(models.build(row), row, len(about["classes"]), about["head"])
    weights.load(chain, spec, run.path("model.safetensors"))
    origin = {"tag": "run", "file": str(run.folder.absolute())}
    preprocess = Preprocess.from_dict(about["preprocess"])
    return Network(
        row,
        spec,
        chain,
        preprocess,
        tuple(about["classes"]),
        origin,
        about.get("agreement_with_fp32"),
    )


def record_of(spec: ModelSpec) -> dict[str, Any]:
    """A row as it stands in run.json: what a library's model looks like takes seconds to find."""
    return {**asdict(spec), "weights": []}


def recorded(about: dict[str, Any]) -> ModelSpec:
    """The row of a run: of our own networks the catalogue's, of a library's the one recorded."""
    fields = about["spec"]
    if fields["builder"] != "library":
        return catalog.find(about["model"])
    tuples = {key: tuple(fields[key]) for key in ("stages", "ignore", "weights")}
    preprocess = Preprocess.from_dict(fields["preprocess"])
    return ModelSpec(**{**fields, **tuples, "preprocess": preprocess})


def with_head(
    chain: nn.Sequential, spec: ModelSpec, classes: int, kind: str
) -> tuple[nn.Sequential, ModelSpec]:
    """The chain with a fresh head for so many classes, and the row that describes it."""
    from torch import nn

    from zoo import models

    fresh = models.replace_head(chain, spec, classes, kind)
    convolution = isinstance(chain.get_submodule(spec.head), nn.Conv2d)
    head = "head" if convolution else spec.head
    spec = replace(spec, head=head, stages=tuple(models.stages(fresh)))
    return fresh, spec
