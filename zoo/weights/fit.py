"""Named tensors into a chain: every name and every shape must fit, the head excepted on request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalog.spec import ModelSpec
from zoo.errors import WeightsError
from zoo.weights.files import read
from zoo.weights.tensors import shown

if TYPE_CHECKING:
    import torch
    from torch import nn

    Tensors = dict[str, torch.Tensor]

NAMED = 5  # tensors in an error message
COUNTER = "num_batches_tracked"  # of BatchNorm; files from before torch 0.4.1 lack it


def load(chain: nn.Sequential, spec: ModelSpec, path: Path, *, except_head: bool = False) -> None:
    """Load a weights file into `chain`, all of it or nothing.

    except_head: whatever the file holds for `spec.head` is left out, and the chain's own is kept.
    Half-precision floats are widened to the chain's type; other types must be equal.
    Raises WeightsError that names up to five tensors that differ.
    """
    own = chain.state_dict()
    found = _as_in_chain(read(path), spec, own)
    if except_head:
        found = {name: tensor for name, tensor in found.items() if not _in_head(name, spec)}
    wanted = {
        name: tensor for name, tensor in own.items() if not (except_head and _in_head(name, spec))
    }
    misfits = _misfits(wanted, found)
    if misfits:
        raise _misfit_error(misfits, spec, path)
    taken = {name: found[name].to(own[name].dtype) for name in wanted if name in found}
    chain.load_state_dict({**own, **taken}, strict=True)


def _in_head(name: str, spec: ModelSpec) -> bool:
    return name.startswith(spec.head + ".")


def _as_in_chain(found: Tensors, spec: ModelSpec, own: Tensors) -> Tensors:
    """Leave out what this chain has no place for, and call the rest as the chain does."""
    found = {name: t for name, t in found.items() if not name.startswith(spec.ignore)}
    if spec.published_head:
        renamed = {_chain_name(name, spec): tensor for name, tensor in found.items()}
        # Our own run files have the chain's names already. Counted, because a library's model
        # may well have a part that is called `backbone` or `head`.
        if len(renamed.keys() & own.keys()) > len(found.keys() & own.keys()):
            found = renamed
    return {name: t for name, t in found.items() if name in own or not name.endswith(COUNTER)}


def _chain_name(name: str, spec: ModelSpec) -> str:
    if name.startswith(spec.published_head + "."):
        return spec.head + name.removeprefix(spec.published_head)
    return f"backbone.{name}"


def _misfits(wanted: Tensors, found: Tensors) -> dict[str, str]:
    """What is wrong, by tensor: other shapes and types first, then missing, then unexpected."""
    import torch

    half = (torch.float16, torch.bfloat16)
    other, missing = {}, {}
    for name, tensor in wanted.items():
        given = found.get(name)
        if given is None:
            if not name.endswith(COUNTER):
                missing[name] = f"{name} is missing"
        elif given.shape != tensor.shape:
            other[name] = f"{name} is {_size(given)}, not {_size(tensor)}"
        elif given.dtype != tensor.dtype and not (
            given.dtype in half and tensor.is_floating_point()
        ):
            other[name] = f"{name} is {_type(given)}, not {_type(tensor)}"
    extra = {name: f"{shown(name)} is unexpected" for name in found if name not in wanted}
    return {**other, **missing, **extra}


def _misfit_error(misfits: dict[str, str], spec: ModelSpec, path: Path) -> WeightsError:
    named = ", ".join(list(misfits.values())[:NAMED])
    more = f" and {len(misfits) - NAMED} more" if len(misfits) > NAMED else ""
    hint = f"is it a file of another model? `zoo info {spec.name}` lists the weights that fit"
    if all(_in_head(name, spec) for name in misfits):
        hint = "only the head differs: the file is for another set of classes"
    return WeightsError(f"{path} does not fit {spec.name}: {named}{more}", hint)


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
