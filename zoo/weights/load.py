"""Named tensors into a chain: every name and every shape must fit, the head excepted on request."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalog.spec import ModelSpec, published_name
from zoo.errors import WeightsError
from zoo.weights import wrapped
from zoo.weights.read import must_be_finite, read
from zoo.weights.tensors import COUNTER, shown

if TYPE_CHECKING:
    import torch
    from torch import nn

    Tensors = dict[str, torch.Tensor]
    Resample = Callable[[Tensors], Tensors]

NAMED = 5  # tensors in an error message
MOST = 0.5  # of the network's names: so many behind a prefix, and it is the one that is meant
_RESAMPLED = "its positions, resampled for this size of pictures"


def load(
    chain: nn.Sequential,
    spec: ModelSpec,
    path: Path,
    *,
    except_head: bool = False,
    resample: Resample | None = None,
) -> str:
    """Load a weights file into `chain`, all of it or nothing; return what of the file was taken.

    Which is nothing where all of it was. except_head: whatever the file holds for `spec.head` is
    left out, and the chain's own is kept. resample: takes tensors of other shapes, under their
    published names, to the chain's size of pictures. Floats of 16 and 64 bits become those of the
    chain; other types must be equal. Raises WeightsError that names up to five tensors that differ.
    """
    except_head = except_head or not (spec.num_classes or spec.task == "reconstruct")
    own = chain.state_dict()
    wanted = {n: tensor for n, tensor in own.items() if not (except_head and _in_head(n, spec))}
    found = read(path, finite=False)

    def as_own(group: Tensors) -> tuple[Tensors, str]:
        named = _as_in_chain(group, spec, own)
        if resample is None or not _of_other_shapes(named, wanted):
            return _with_head(named, wanted, own, spec)
        with suppress(Exception):  # a library's own conversions raise anything
            named = _as_in_chain(resample(group), spec, own)
        found, note = _with_head(named, wanted, own, spec)
        return found, "; ".join(filter(None, (_RESAMPLED, note)))

    def fits(group: Tensors) -> bool:
        return not _misfits(wanted, as_own(group)[0])

    choice = wrapped.choose(found, _names_in_files(wanted, spec), fits)
    if choice.rivals:
        raise _ambiguous(choice.rivals, spec, path)
    taken, note = as_own(wrapped.behind(found, choice.prefix))
    if not choice.fits:
        if len(taken.keys() & wanted.keys()) < MOST * len(wanted):
            choice, (taken, note) = wrapped.Choice("", False), as_own(found)
        raise _misfit_error(_misfits(wanted, taken), spec, path, choice.prefix)
    must_be_finite(taken, path)
    values = {n: taken[n].to(own[n].dtype) for n in wanted if n in taken}
    chain.load_state_dict({**own, **values}, strict=True)
    return "; ".join(filter(None, (choice.note, note, _rounded(taken, values))))


def _of_other_shapes(found: Tensors, wanted: Tensors) -> bool:
    return any(name in found and found[name].shape != wanted[name].shape for name in wanted)


def _in_head(name: str, spec: ModelSpec) -> bool:
    return name.startswith(spec.head + ".")


def _as_in_chain(found: Tensors, spec: ModelSpec, own: Tensors) -> Tensors:
    """Leave out what this chain has no place for, and call the rest as the chain does.

    Of a network with two heads, as published, both are left out; a run has one in their place, and
    it may have the name of one of them.
    """
    ours = own.keys() if own.keys() <= found.keys() else ()
    found = {n: t for n, t in found.items() if n in ours or not n.startswith(spec.ignore)}
    if spec.published:
        named = {published_name(name, spec.published): name for name in own}
        renamed = {named.get(name, name): tensor for name, tensor in found.items()}
        # Our own run files have the chain's names already. Counted, because a library's model
        # may well have a part that is called `backbone` or `head`.
        if len(renamed.keys() & own.keys()) > len(found.keys() & own.keys()):
            found = renamed
    return {name: t for name, t in found.items() if name in own or not name.endswith(COUNTER)}


def _names_in_files(wanted: Tensors, spec: ModelSpec) -> set[str]:
    """What the wanted tensors may be called in a file: as in the chain, or as published."""
    return set(wanted) | {published_name(name, spec.published) for name in wanted}


def _with_head(
    found: Tensors, wanted: Tensors, own: Tensors, spec: ModelSpec
) -> tuple[Tensors, str]:
    """Call the head as the chain does, or leave it out where none is wanted; and say what it was.

    A layer under another name is the head where no other layer is too much, the file has none of
    the chain's name, and it takes in what the chain's does.
    """
    if not any(_in_head(name, spec) for name in wanted):  # it is the chain's own that is kept
        found = {name: tensor for name, tensor in found.items() if not _in_head(name, spec)}
    elif any(name in found for name in own if _in_head(name, spec)):
        return found, ""
    theirs = {name: tensor for name, tensor in found.items() if name not in wanted}
    layers = {name.rpartition(".")[0] for name in theirs}
    if len(layers) != 1:
        return found, ""
    (layer,) = layers
    ours = {f"{spec.head}{name.removeprefix(layer)}": tensor for name, tensor in theirs.items()}
    if not all(n in own and _takes(own[n]) == _takes(tensor) for n, tensor in ours.items()):
        return found, ""
    rest = {name: tensor for name, tensor in found.items() if name in wanted}
    kept = {name: tensor for name, tensor in ours.items() if name in wanted}
    return rest | kept, f"its head is `{shown(layer.removeprefix('backbone.'))}`"


def _takes(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return the shape, but for the number of classes."""
    return tuple(tensor.shape[1:])


def _misfits(wanted: Tensors, found: Tensors) -> dict[str, str]:
    """Return what is wrong, by tensor: shapes and types first, then missing, then unexpected."""
    import torch

    floats = (torch.float16, torch.bfloat16, torch.float64)
    other, missing = {}, {}
    for name, tensor in wanted.items():
        given = found.get(name)
        if given is None:
            if not name.endswith(COUNTER):
                missing[name] = f"{name} is missing"
        elif given.shape != tensor.shape:
            other[name] = f"{name} is {_size(given)}, not {_size(tensor)}"
        elif given.dtype != tensor.dtype and not (
            given.dtype in floats and tensor.is_floating_point()
        ):
            other[name] = f"{name} is {_type(given)}, not {_type(tensor)}"
        elif given.dtype == torch.float64 and _too_large(given, tensor.dtype):
            other[name] = f"{name} holds numbers that are too large for {_type(tensor)}"
    extra = {name: f"{shown(name)} is unexpected" for name in found if name not in wanted}
    return {**other, **missing, **extra}


def _too_large(given: torch.Tensor, dtype: torch.dtype) -> bool:
    return bool((given.isfinite() & ~given.to(dtype).isfinite()).any())


def _misfit_error(
    misfits: dict[str, str], spec: ModelSpec, path: Path, prefix: str
) -> WeightsError:
    named = ", ".join(list(misfits.values())[:NAMED])
    more = f" and {len(misfits) - NAMED} more" if len(misfits) > NAMED else ""
    under = f", under `{shown(prefix.rstrip('.'))}`" if prefix else ""
    hint = f"is it a file of another model? `zoo info {spec.name}` lists the weights that fit"
    if all(_in_head(name, spec) for name in misfits):
        hint = "only the head differs: the file is for another set of classes"
    elif prefix:
        hint = (
            f"most of the network is under `{shown(prefix.rstrip('.'))}`, the rest is of another: "
            "save its state dict alone, torch.save(model.state_dict(), FILE)"
        )
    return WeightsError(f"{path} does not fit {spec.name}{under}: {named}{more}", hint)


def _ambiguous(rivals: tuple[str, ...], spec: ModelSpec, path: Path) -> WeightsError:
    names = ", ".join(f"`{shown(prefix.rstrip('.'))}`" for prefix in rivals[:NAMED])
    return WeightsError(
        f"{path} holds {spec.name} {len(rivals)} times, with other numbers each: under {names}",
        "save the one that is meant alone: torch.save(model.state_dict(), FILE)",
    )


def _rounded(taken: Tensors, values: Tensors) -> str:
    import torch

    wide = any(taken[name].dtype == torch.float64 != values[name].dtype for name in values)
    return "its float64 rounded to float32" if wide else ""


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
