"""A chain with its weights, its Preprocess and its classes: from a name, or from a run folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import catalog, network_published, weights
from zoo.catalog import ModelSpec, Preprocess, Weights
from zoo.device import seed_all
from zoo.errors import RunError, WeightsError, first_line
from zoo.head.kinds import kind_of
from zoo.records import EDITED
from zoo.run import Run
from zoo.watch import Progress
from zoo.weights import Repository

if TYPE_CHECKING:
    from torch import nn

QUICK, USUAL = 1e9, 512  # multiply-adds and pixels a side: a tenth of a second
Variant = dict[str, str | float]


@dataclass(frozen=True, slots=True)
class Network:
    """A chain with its weights. origin: where they are from, as it stands in run.json.

    row: of the model as the catalogue or its library has it. spec: the row of this very chain,
    whose head may be another. threshold: of a network that tells several labels a picture, the
    probability from which on a class is one of them.
    """

    row: ModelSpec
    spec: ModelSpec
    chain: nn.Sequential
    preprocess: Preprocess
    classes: tuple[str, ...]
    origin: dict[str, Any]
    variant: Variant = field(default_factory=dict)
    threshold: float | None = None
    source: Path | None = None  # the file that the weights are from

    @property
    def said_of_file(self) -> str:
        """Return what was taken of a weights file, or nothing where all of it was."""
        taken = self.origin.get("taken", "")
        return f"taken from the file: {taken}" if taken else ""

    @property
    def trained(self) -> bool:
        return bool(self.origin["tag"] != "none")


def pretrained(
    model: str | ModelSpec,
    choice: str | None = None,
    *,
    variant: Variant | None = None,
    except_head: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Network:
    """Return a model of the catalogue or of a library with the weights that `--weights` names.

    model: its name; or its row, whose size of pictures is asked for. variant: keywords of the
    builder. except_head: a file whose head has other classes will do. seed: of `none`, see
    `untrained`. Raises UnknownModel, UsageError and WeightsError.
    """
    network_published.fetch_first(model, choice, progress, variant)
    from zoo import models
    from zoo.models import sizes

    spec = models.resolve(model) if isinstance(model, str) else model
    variant = catalog.check_variant(spec, variant or {})
    chosen = _chosen(spec, choice)
    if isinstance(chosen, Path) and is_run_file(chosen):
        run = Run.open(chosen.parent).finished()
        net = of_run(run, expected=spec.name, variant=variant)
        if isinstance(model, str):
            return net
        resized = sizes.resized(net.chain, net.preprocess, model.preprocess.size, str(run.folder))
        return replace(net, preprocess=resized)
    if chosen is None:
        return _drawn(spec, None, variant, seed)
    if isinstance(chosen, Weights):
        catalog.check_published(spec, variant, chosen.tag)
    seed_all("weights", seed)
    spec, start = network_published.start(spec, chosen, progress)
    chain = models.build(spec, variant=variant)
    resample = None if isinstance(model, str) else sizes.resampling(spec)
    taken = weights.load(chain, spec, start.path, except_head=except_head, resample=resample)
    if taken and not isinstance(chosen, Weights):
        start.origin["taken"] = taken
    preprocess = start.preprocess or spec.preprocess
    if isinstance(chosen, Repository):
        network_published.must_take(chain, preprocess, spec.name, chosen)
    found = chain, preprocess, start.names, start.origin, variant
    return Network(spec, spec, *found, source=start.path)


def _chosen(spec: ModelSpec, choice: str | None) -> Weights | Path | Repository | None:
    """Return what `--weights` names. Raises WeightsError where a default is not there either."""
    chosen = weights.choose(spec, choice)
    if chosen is None and choice is None:
        raise WeightsError(
            f"{spec.name} has no pretrained weights",
            "give some with --weights FILE or RUN, or train it from scratch: "
            f"`zoo train {spec.name} PHOTOS`",
        )
    return chosen


def untrained(
    model: str | ModelSpec,
    classes: int | None = None,
    *,
    variant: Variant | None = None,
    seed: int = 0,
) -> Network:
    """Return a model with weights drawn from the seed, for as many classes as its row unless told.

    Raises UnknownModel and UsageError.
    """
    from zoo import models

    spec = models.resolve(model) if isinstance(model, str) else model
    return _drawn(spec, classes, catalog.check_variant(spec, variant or {}), seed)


def _drawn(spec: ModelSpec, classes: int | None, variant: Variant, seed: int) -> Network:
    from zoo import models

    seed_all("weights", seed)
    chain, origin = models.build(spec, classes, variant), {"tag": "none", "seed": seed}
    return Network(spec, spec, chain, spec.preprocess, (), origin, variant=variant)


def is_run_file(path: Path) -> bool:
    """Whether this is the network of a run, and not another file that lies beside a run.json."""
    return path.name == "model.safetensors" and (path.parent / "run.json").exists()


def of_run(run: Run, expected: str | None = None, variant: Variant | None = None) -> Network:
    """Return the network that a finished run saved.

    expected: the model that it is to be of, variant: what it must have. Raises RunError.
    """
    from zoo import models

    about = run.record
    row, kept = _recorded_as(run, expected, variant or {})
    file, _ = model_file(run) if expected is None else model_file(run, AS_START)
    seed_all("weights", 0)
    chain, spec = models.build(row, variant=catalog.check_variant(row, kept)), row
    names: tuple[str, ...] = ()
    if about.get("task", "classify") == "reconstruct":
        if row.task != "reconstruct":
            raise RunError(f"task is reconstruct, in a run of {row.name}, a classifier", EDITED)
    else:
        names = tuple(about["classes"])
        _must_have_head(run, chain, row)
        kind = about["head"]
        rows = _reference_rows(file, kind)
        chain, spec = with_head(chain, row, len(names), kind, rows)
    weights.load(chain, spec, file)
    preprocess = Preprocess.from_dict(about["preprocess"])
    if row.builder == "library" or preprocess != row.preprocess:
        _must_take(run, chain, preprocess)
    origin, threshold = {"tag": "run", "file": str(run.folder.absolute())}, about.get("threshold")
    return Network(row, spec, chain, preprocess, names, origin, kept, threshold, file)


def _recorded_as(run: Run, expected: str | None, variant: Variant) -> tuple[ModelSpec, Variant]:
    """Return the row of a run and its variant. Raises RunError where they are not as asked for."""
    about = run.record
    if expected is not None and catalog.base(about["model"]) != catalog.base(expected):
        raise RunError(
            f"{run.folder} is a run of {about['model']}, not of {expected}",
            f"`zoo finetune {about['model']} …`, or give weights of {expected}",
        )
    row, kept = recorded(about), dict(about.get("variant", {}))
    usual = {knob.name: knob.usual for knob in row.variants}
    for name, value in variant.items():
        if kept.get(name, usual.get(name)) != value:
            raise RunError(
                f"{run.folder} has {name} = {kept.get(name, usual.get(name))}, not {value}",
                f"leave --variant {name}=… out: a run's network is what it is",
            )
    return row, kept


# A run folder may come from a stranger, or have been edited.


TRUSTED = "--trust-changed uses it as it is: the run's accuracy is of another"
AS_START = "--weights COPY takes a copy of it elsewhere, as a file of which nothing is known"


def model_file(run: Run, way_out: str = TRUSTED) -> tuple[Path, str]:
    """Return the file of a run's network and its sha256.

    way_out: what the command can do with a file that was changed.

    Raises RunError where it is not the file that the run has saved, unless it is to be trusted,
    and WeightsError where it can have no head for the run's classes.
    """
    path = run.path("model.safetensors")
    digest = weights.hash_of(path)
    if not run.trusts and run.record.get("model_sha256", digest) != digest:
        raise RunError(
            f"{path} is not the file that the run has saved: its sha256 is {digest[:12]}…, in "
            f"run.json it is {run.record['model_sha256'][:12]}…",
            f"restore it; or {way_out}",
        )
    if run.record.get("task") != "reconstruct":
        _must_hold(run, path)
    return path, digest


def must_be_exported(file: Path) -> None:
    """Raises RunError for a file in a run folder that is not the one that was exported there."""
    try:
        proofs = Run.open(file.parent).record.get("exported", {}).values()
    except RunError:  # it lies beside a run.json that is not ours, or beside none
        return
    for proof in proofs:
        known = proof.get("sha256") if Path(proof.get("path", "")).name == file.name else None
        if known is not None and (digest := weights.hash_of(file)) != known:
            raise RunError(
                f"{file} is not the file that was exported: its sha256 is {digest[:12]}…, "
                f"in run.json it is {known[:12]}…",
                "export it anew; or --trust-changed uses it as it is",
            )


def _must_hold(run: Run, path: Path) -> None:
    """Raises RunError where no tensor of the file can be a layer of a head as run.json has it.

    Before a network is built: a list of a million names would take all of the memory.
    """
    rows = {shape[0] for shape in weights.shapes(path).values() if shape}
    classes, kind = len(run.record["classes"]), kind_of(run.record["head"])
    wanted = {f"classes lists {classes:,} names": classes}
    if kind.word == "mlp":
        wanted[f"head is mlp:{kind.number}"] = kind.number
    for said, count in wanted.items():
        if count not in rows and not (kind.word == "knn" and count <= max(rows, default=0)):
            raise RunError(
                f"{run.path('run.json')}: {said}, and {path.name} has no layer of {count:,}", EDITED
            )


def _reference_rows(path: Path, kind: str) -> int:
    """Return how many rows a head of nearest neighbours, or E that a text head has in a file.

    1 where there is neither.
    """
    end = ".project.bias" if kind == "text" else ".labels"
    found = [shape for name, shape in weights.shapes(path).items() if name.endswith(end)]
    return found[-1][0] if found and len(found[-1]) == 1 and found[-1][0] else 1


def _must_have_head(run: Run, chain: nn.Sequential, row: ModelSpec) -> None:
    """Raises RunError where the row of a run names what is no last layer of the network."""
    from torch import nn

    name = row.code if row.task == "reconstruct" else row.head
    try:
        found: object = chain.get_submodule(name) if name else None
    except AttributeError:
        found = None
    if not isinstance(found, nn.Linear | nn.Conv2d):
        raise RunError(
            f"{run.path('run.json')}: spec.head is {name!r}, which is no layer of {row.name} that "
            "gives classes",
            EDITED,
        )


def _must_take(run: Run, chain: nn.Sequential, preprocess: Preprocess) -> None:
    """Raises RunError where the network cannot take a picture as run.json describes it."""
    from zoo.models.meter import passes

    macs = run.record["spec"].get("macs") or QUICK
    small = macs < QUICK and max(preprocess.shape) <= USUAL
    try:
        passes(chain, preprocess, quick=small)
    except Exception as error:  # the networks' own have no common type
        shape = " x ".join(map(str, preprocess.shape))
        raise RunError(
            f"{run.path('run.json')}: preprocess says {shape}, which "
            f"{run.record['model']} cannot take: {first_line(error)}",
            EDITED,
        ) from error


def record_of(spec: ModelSpec) -> dict[str, Any]:
    """Return a row for run.json: what a library's model looks like takes seconds to find."""
    return {**asdict(spec), "weights": []}


def recorded(about: dict[str, Any]) -> ModelSpec:
    """Return the row of a run: the catalogue's, of a library's model the one recorded."""
    said = about.get("spec")
    if said is None:
        raise RunError("the run was written by an older zoo", "make it anew: features are kept")
    if said["builder"] != "library":
        return catalog.find(about["model"])
    if said["name"] != about["model"]:
        raise RunError(f"spec.name is {said['name']!r}, in a run of {about['model']}", EDITED)
    catalog.library_name(said["name"])
    return ModelSpec.from_dict(said | {"weights": (), "variants": ()})


def with_head(
    chain: nn.Sequential, spec: ModelSpec, classes: int, kind: str, rows: int = 1
) -> tuple[nn.Sequential, ModelSpec]:
    """Return the chain with a fresh head for so many classes, and the row that describes it.

    rows: of a head of nearest neighbours.
    """
    from torch import nn

    from zoo import models

    fresh = models.replace_head(chain, spec, classes, kind, rows)
    new = spec.task == "reconstruct" or isinstance(chain.get_submodule(spec.head), nn.Conv2d)
    head = "head" if new else spec.head
    count = spec.num_classes or classes  # a row without classes has some now: files hold its head
    row = replace(spec, head=head, stages=tuple(models.stages(fresh)), num_classes=count)
    return fresh, replace(row, task="classify")
