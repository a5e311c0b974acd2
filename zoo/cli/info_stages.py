"""The stages of a network for whoever asks: shipped or kept; built, with torch, the first time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from zoo import catalog, extras
from zoo.catalog import ModelSpec, structures
from zoo.catalog.structures import StageInfo

_FORMAT = 2
Stages = tuple[StageInfo, ...]


def described(name: str, asked: Mapping[str, str | float]) -> tuple[ModelSpec, Stages]:
    """Return the row of a model, for a variant of it with what that counts, and its stages.

    Raises UnknownModel and UsageError.
    """
    if not catalog.of_library(name):
        spec = catalog.find(name)
        variant = catalog.check_variant(spec, asked)
        known = None if variant else structures.find(spec.name)
        if known is not None:
            return spec, known.stages
    from zoo.disk import read_sealed, write_sealed

    place = _place(name, asked)
    with suppress(ValueError, TypeError, LookupError):
        said = json.loads(read_sealed(place) or b"")
        known_stages = (StageInfo(**one | {"shape": tuple(one["shape"])}) for one in said["stages"])
        return ModelSpec.from_dict(said["spec"]), tuple(known_stages)
    spec, stages = _built(name, asked)
    record = {"spec": asdict(spec), "stages": [asdict(stage) for stage in stages]}
    write_sealed(place, json.dumps(record).encode())
    return spec, stages


def _place(name: str, asked: Mapping[str, str | float]) -> Path:
    from zoo.engine.compiled import version_of
    from zoo.engine.store import known_at

    library = name.partition("/")[0] if catalog.of_library(name) else ""
    versions = [version_of(each) for each in ("zoo", "torch", library) if each]
    return known_at("stages-", [_FORMAT, versions, name, sorted(asked.items())])


def _built(name: str, asked: Mapping[str, str | float]) -> tuple[ModelSpec, Stages]:
    extras.need(f"`zoo info {name}`", "torch", instead=f"`zoo list {name}` says what is known")
    from zoo import models

    spec = models.resolve(name)
    variant = catalog.check_variant(spec, asked)
    stages = tuple(models.describe(models.build(spec, variant=variant), spec))
    if not variant:
        return spec, stages
    sums = {key: sum(getattr(one, key) for one in stages) for key in ("params", "macs")}
    peak, names = max(one.activations for one in stages), tuple(one.name for one in stages)
    return replace(spec, **sums, activations=peak, stages=names), stages
