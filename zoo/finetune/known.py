"""What is known of a network from an earlier run: enough to plan a solved head without torch.

Building a network to find out where its head is takes torch, and a library's model seconds more.
What the plan says of it is kept beside the compiled graphs, under a name made of the words that
asked for it and of the content of the file that it starts from, as it is read at that moment.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import catalog, weights
from zoo.catalog import ModelSpec, Preprocess, Weights
from zoo.data.index import DatasetIndex
from zoo.device import Device
from zoo.disk import read_sealed, write_sealed
from zoo.engine.compiled import version_of
from zoo.errors import WriteError, ZooError
from zoo.finetune.choices import OF_STEPS, balancing, default, solver_of
from zoo.finetune.cut import Cut
from zoo.finetune.prefix import tensors_of
from zoo.network import Network, is_run_file, record_of, recorded
from zoo.recipe import Recipe

if TYPE_CHECKING:
    from zoo.finetune.plan import Plan

FORMAT = 3


@dataclass(frozen=True, slots=True)
class Known:
    """A network and its cut, as a plan tells of them.

    spec: its row. preprocess: of its weights. shape: of one picture's features. frozen, trained,
    why: what the plan says of the parts. linear: nothing but a linear head is trained. tensors:
    hash of those of the frozen part.
    """

    spec: dict[str, Any]
    origin: dict[str, Any]
    preprocess: dict[str, Any]
    weights_sha256: str
    head: str
    cut: str
    boundary: str
    shape: tuple[int, ...]
    frozen: str
    trained: str
    why: str
    linear: bool
    tensors: str

    def parameters(self, classes: int) -> int:
        """Of a linear head."""
        (width,) = self.shape
        return (width + 1) * classes


def words_of(recipe: Recipe) -> list[Any]:
    """What asks for a network, and whose code makes it."""
    choice = recipe.weights
    if choice is not None and os.path.exists(os.path.expanduser(choice)):
        choice = os.path.abspath(os.path.expanduser(choice))
    seed = recipe.seed if choice is not None and choice.lower() == "none" else None
    library = recipe.model.partition("/")[0] if catalog.of_library(recipe.model) else ""
    versions = [version_of(name) for name in ("zoo", "torch", library) if name]
    return [FORMAT, versions, recipe.model, choice, seed, recipe.cut, recipe.variant]


def kept_as(*facts: Any) -> Path:
    """Where that is kept which is computed from these."""
    text = json.dumps(facts, sort_keys=True)
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    return weights.cache_folder() / "known" / f"{digest[:32]}.json"


def place(recipe: Recipe, source: Path | None) -> Path:
    """Where that is kept which is known of what the recipe starts from. Raises WeightsError."""
    content = [weights.hash_of(source)] if source else []
    if source and is_run_file(source):  # its record says what the network is
        content.append(weights.hash_of(source.with_name("run.json")))
    return kept_as(words_of(recipe), content)


def source_of(recipe: Recipe) -> Path | None:
    """The file of the weights that are asked for. Raises LookupError where only torch can tell."""
    choice = recipe.weights
    if choice is not None and choice.lower() == "none":
        return None
    found: Weights | Path | None
    if not catalog.of_library(recipe.model):
        found = weights.choose(catalog.find(recipe.model), choice)
    elif choice is not None and os.path.exists(os.path.expanduser(choice)):
        path = Path(os.path.expanduser(choice))
        found = path / "model.safetensors" if path.is_dir() else path
    else:  # what the library calls its weights does not change with a version of it
        name = read_sealed(kept_as("file", words_of(recipe)))
        found = Weights("", "", name.decode()) if name else None
    found = weights.held(found) if isinstance(found, Weights) else found
    if found is None:
        raise LookupError("no such file is here")
    return found


def remember(plan: Plan) -> None:
    """Keeps what the plan says of its network; a cache that cannot be written keeps nothing."""
    from zoo.finetune.explain import about_frozen, names_trained, why_there
    from zoo.finetune.phases import is_linear

    assert plan.cut is not None
    assert plan.facts is not None
    known = Known(
        spec=record_of(plan.start.row),
        origin=plan.start.origin,
        preprocess=plan.start.preprocess.to_dict(),
        weights_sha256=plan.weights_sha256,
        head=plan.head,
        cut=plan.cut.name,
        boundary=plan.cut.boundary,
        shape=plan.phases[0].shape,
        frozen=about_frozen(plan.cut),
        trained=names_trained(plan.cut),
        why=why_there(plan),
        linear=is_linear(plan.cut, plan.chain, plan.head, plan.phases[0].shape),
        tensors=tensors_of(plan.cut.frozen),
    )
    origin, text = plan.start.origin, json.dumps(asdict(known))
    with suppress(WriteError):
        if catalog.of_library(plan.recipe.model) and origin["tag"] not in ("file", "run", "none"):
            write_sealed(kept_as("file", words_of(plan.recipe)), origin["file"].encode())
        write_sealed(plan.facts, text.encode(errors="surrogatepass"))


def recall(recipe: Recipe) -> Known | None:
    """What is known of the network that the recipe asks for; nothing of other weights."""
    try:
        content = read_sealed(place(recipe, source_of(recipe)))
        record = json.loads(content) if content else {}
        return Known(**{**record, "shape": tuple(record["shape"])})
    except (OSError, ValueError, TypeError, LookupError, ZooError):
        return None


def able(recipe: Recipe, device: Device, engine: str) -> bool:
    """Whether all there is to do is to solve for a linear head, and not torch runs the rest."""
    plain = recipe.freeze and recipe.head == "linear" and recipe.task == "classify"
    steps = any(getattr(recipe, name) != default(name) for name in OF_STEPS)
    asked = recipe.augment != "none" or recipe.distort != "none"
    if not (plain and engine == "openvino" and alone_here(device)) or steps or asked:
        return False
    return solver_of(recipe, linear=True, kept=True)[0] == "lbfgs"


def alone_here(device: Device) -> bool:
    """On a CPU, and not in a team of processes."""
    return device.is_cpu and "RANK" not in os.environ


def row_of(known: Known, recipe: Recipe) -> ModelSpec:
    return recorded({"model": recipe.model, "spec": known.spec})


def preprocess_of(known: Known, recipe: Recipe) -> Preprocess:
    preprocess = Preprocess.from_dict(known.preprocess)
    return replace(preprocess, fit=recipe.fit or preprocess.fit)


def plan_of(
    recipe: Recipe, index: DatasetIndex, device: Device, engine: tuple[str, str]
) -> Plan | None:
    """The plan without the network, where it is known and its frozen part is compiled."""
    from zoo.engine import compiled
    from zoo.finetune.phases import solved_phase
    from zoo.finetune.plan import Plan

    if not able(recipe, device, engine[0]):
        return None
    known = recall(recipe)
    if known is None or not known.linear:
        return None
    row = row_of(known, recipe)
    weights_fit = Preprocess.from_dict(known.preprocess)
    unseen: Any = None  # the chain: whoever needs it has not come this way
    start = Network(row, row, unseen, weights_fit, (), known.origin, variant=dict(recipe.variant))
    preprocess = preprocess_of(known, recipe)
    parts = Cut(known.cut, known.boundary, unseen, unseen)
    phase, views, reasons = solved_phase(recipe, parts, known.shape, preprocess, index)
    if not phase.kept:
        return None
    balance, class_weights, balance_why = balancing(recipe, index)
    solver_why = solver_of(recipe, linear=True, kept=True)[1]
    plan = Plan(
        recipe=recipe,
        start=start,
        index=index,
        chain=unseen,
        head=known.head,
        cut=parts,
        preprocess=preprocess,
        device=device,
        weights_sha256=known.weights_sha256,
        lr=0.0,
        views=views,
        threads=1,
        scales=False,
        phases=(phase,),
        best="optimum",
        view_seed=recipe.seed,
        balance=balance,
        class_weights=class_weights,
        engine=engine[0],
        known=known,
        reasons={
            **reasons,
            "solver": solver_why,
            "lr": "",
            "threads": "",
            "best": "no epoch is chosen on the val photos",
            "balance": balance_why,
            "engine": engine[1],
        },
    )
    return plan if compiled.find(plan.part(parts).key, state=True) else None
