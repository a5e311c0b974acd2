"""Keep what a plan says of its network."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict

from zoo import catalog
from zoo.disk import write_sealed
from zoo.engine.open import tensors_of
from zoo.errors import WriteError
from zoo.finetune.describe import about_frozen, names_trained, why_there
from zoo.finetune.facts import Known, kept_as, words_of
from zoo.finetune.plan import Plan
from zoo.models.cut import is_linear
from zoo.network import record_of


def remember(plan: Plan) -> None:
    """Keeps what the plan says of its network; a cache that cannot be written keeps nothing."""
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
