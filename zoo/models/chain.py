"""What a chain is made of: the places in it, one after the other, and what they have to train."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import nn


def steps(chain: nn.Sequential, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Return what runs one after the other, inside stages that are chains themselves, too."""
    found: list[tuple[str, nn.Module]] = []
    for name, stage in chain.named_children():
        inner = steps(cast("nn.Sequential", stage), f"{prefix}{name}.") if is_chain(stage) else []
        found += inner or [(f"{prefix}{name}", stage)]
    return found


def whole(chain: nn.Sequential, place: str) -> str:
    """Return the stage that this place is the end of, if it is the end of one."""
    while "." in place:
        stage, _, last = place.rpartition(".")
        if [name for name, _ in chain.get_submodule(stage).named_children()][-1] != last:
            break
        place = stage
    return place


def before(chain: nn.Sequential, name: str) -> str:
    """The stage that ends where the one at this dotted name begins; empty for the first one."""
    own, _, rest = name.partition(".")
    names = [name for name, _ in chain.named_children()]
    stage = chain.get_submodule(own)
    inside = before(cast("nn.Sequential", stage), rest) if rest and is_chain(stage) else ""
    if inside:
        return f"{own}.{inside}"
    at = names.index(own)
    return names[at - 1] if at else ""


def listed(chain: nn.Sequential) -> str:
    return ", ".join(name for name, _ in chain.named_children())


def nothing_to_train(stage: nn.Module) -> bool:
    """Whether a stage gives the same answer in every epoch: no parameters, no chance."""
    if any(True for _ in stage.parameters()) or any(True for _ in stage.buffers()):
        return False
    return not any(_by_chance(part) for part in stage.modules())


def _by_chance(part: nn.Module) -> bool:
    """Return whether a part drops some numbers by chance, or looks at the rest of its batch."""
    from torch import nn

    if isinstance(part, nn.modules.batchnorm._NormBase):
        return True
    drops = "drop" in type(part).__name__.lower()
    return drops and getattr(part, "p", getattr(part, "drop_prob", 1.0)) != 0


def first_layer(model: nn.Module) -> nn.Module | None:
    """The first part of the trained network that has parameters of its own."""
    for part in model.modules():
        if any(True for _ in part.parameters(recurse=False)):
            return part
    return None


def is_chain(stage: nn.Module) -> bool:
    """Whether it runs its children one after the other, and does nothing else."""
    from torch import nn

    return type(stage).forward is nn.Sequential.forward
