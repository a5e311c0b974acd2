"""Parameters in groups: how fast each stage learns, and what decays.

New layers learn at the full rate, pretrained ones at a share of it that falls from stage to stage
away from the head (layer-wise decay; Howard and Ruder 2018, arXiv:1801.06146).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.train.optimizers import ParamGroup

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.train.records import LoopSettings

PRETRAINED = 0.1


def param_groups(model: nn.Module, settings: LoopSettings) -> list[ParamGroup]:
    """Group the parameters by share of the rate and by decay (matrices have it, biases not)."""
    groups: dict[tuple[float, float], list[torch.Tensor]] = {}
    share = _shares(model, settings)
    for name, parameter in model.named_parameters():
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((share[name], decay), []).append(parameter)
    return [
        {"params": parameters, "share": share, "lr": 0.0, "weight_decay": decay}
        for (share, decay), parameters in groups.items()
    ]


def _shares(model: nn.Module, settings: LoopSettings) -> dict[str, float]:
    """Return the share of the peak rate of each parameter by its name."""
    names = [name for name, _ in model.named_parameters()]
    if settings.fresh is None:
        return dict.fromkeys(names, 1.0)
    old = [name for name in names if not name.startswith(fresh_starts(model, settings))]
    stages = list(dict.fromkeys(stage_of(name, model) for name in old))
    far = {stage: number for number, stage in enumerate(reversed(stages))}
    return dict.fromkeys(names, 1.0) | {
        name: settings.below * settings.layer_decay ** far[stage_of(name, model)] for name in old
    }


def fresh_starts(model: nn.Module, settings: LoopSettings) -> tuple[str, ...]:
    """Return what names of new parts begin with: the head's, and heads that only train."""
    from zoo.models.auxiliary import AuxiliaryHead

    parts = model.named_modules()
    fresh = [name for name, part in parts if isinstance(part, AuxiliaryHead)] + [settings.fresh]
    return tuple(f"{name}." for name in fresh)


def stage_of(name: str, model: nn.Module) -> str:
    """Return the stage of a parameter; in a stage that is itself a long chain, the part of it."""
    from torch import nn

    first, _, rest = name.partition(".")
    inner = model.get_submodule(first)
    second = rest.partition(".")[0]
    chained = type(inner) is nn.Sequential and len(inner) > 1
    return f"{first}.{second}" if chained and second.isdecimal() else first
