"""What is known of a network from an earlier run: enough to plan a solved head without torch.

Building a network to find out where its head is takes torch, and a library's model seconds more.
What the plan says of it is kept beside the compiled graphs, under a name made of the words that
asked for it, and holds as long as the file of the weights has the same content.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import __version__, catalog, weights
from zoo.catalog import Preprocess
from zoo.data.index import DatasetIndex
from zoo.device import Device
from zoo.errors import WeightsError, WriteError
from zoo.finetune.choices import OF_STEPS, balancing, default, solver_of
from zoo.finetune.cut import Cut
from zoo.network import Network, record_of, recorded
from zoo.recipe import Recipe
from zoo.run import write_json

if TYPE_CHECKING:
    from zoo.finetune.plan import Plan

FORMAT = 2


@dataclass(frozen=True, slots=True)
class Known:
    """A network and its cut, as a plan tells of them.

    spec: its row. preprocess: of its weights. shape: of one picture's features. frozen, trained,
    why: what the plan says of the parts. linear: nothing but a linear head is trained. source,
    sha256: the file of the weights, or nothing.
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
    source: str
    sha256: str

    def parameters(self, classes: int) -> int:
        """Of a linear head."""
        (width,) = self.shape
        return (width + 1) * classes


def place(recipe: Recipe) -> Path:
    """Where that is kept which these words have asked for."""
    choice = recipe.weights
    if choice is not None and os.path.exists(os.path.expanduser(choice)):
        choice = os.path.abspath(os.path.expanduser(choice))
    seed = recipe.seed if choice is not None and choice.lower() == "none" else None
    library = recipe.model.partition("/")[0] if catalog.of_library(recipe.model) else ""
    words = [FORMAT, __version__, recipe.model, choice, seed, recipe.cut, recipe.variant]
    text = json.dumps([*words, library and version_of(library)], sort_keys=True)
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    return weights.cache_folder() / "known" / f"{digest[:32]}.json"


def version_of(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def remember(plan: Plan, source: Path | None) -> None:
    """Keeps what the plan says of its network; a cache that cannot be written keeps nothing."""
    from zoo.finetune.explain import about_frozen, names_trained, why_there
    from zoo.finetune.phases import is_linear

    assert plan.cut is not None
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
        source=str(source.absolute()) if source else "",
        sha256=weights.hash_of(source) if source else "",
    )
    path = place(plan.recipe)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(known))
    except (OSError, WriteError):
        return


def recall(recipe: Recipe) -> Known | None:
    """What is known of the network that the recipe asks for; nothing of other weights."""
    try:
        record = json.loads(place(recipe).read_text("utf-8", "surrogateescape"))
        known = Known(**{**record, "shape": tuple(record["shape"])})
        if known.source and weights.hash_of(Path(known.source)) != known.sha256:
            return None
    except (OSError, ValueError, TypeError, KeyError, WeightsError):
        return None
    return known


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
    row = recorded({"model": recipe.model, "spec": known.spec})
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
    return plan if compiled.find(plan.part(parts).key) else None
