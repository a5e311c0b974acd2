"""Parameters in groups: how fast each stage learns, and what decays.

New layers learn at the full rate, pretrained ones at a share of it that falls from stage to stage
away from the head (layer-wise decay; Howard and Ruder 2018, arXiv:1801.06146).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from zoo.train.records import Settings

PRETRAINED = 0.1


def parameter_groups(model: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Parameters by share of the rate and by decay (matrices have it, biases not)."""
    groups: dict[tuple[float, float], list[Any]] = {}
    share = shares(model, settings)
    for name, parameter in model.named_parameters():
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((share[name], decay), []).append(parameter)
    return [
        {"params": parameters, "share": share, "lr": 0.0, "weight_decay": decay}
        for (share, decay), parameters in groups.items()
    ]


def shares(model: nn.Module, settings: Settings) -> dict[str, float]:
    """The share of the peak rate of each parameter by its name."""
    names = [name for name, _ in model.named_parameters()]
    if settings.fresh is None:
        return dict.fromkeys(names, 1.0)
    old = [name for name in names if not name.startswith(fresh_starts(model, settings))]
    stages = list(dict.fromkeys(stage_of(name, model) for name in old))
    far = {stage: number for number, stage in enumerate(reversed(stages))}
    return {
        name: settings.below * settings.layer_decay ** far[stage_of(name, model)]
        if name in old
        else 1.0
        for name in names
    }


def fresh_starts(model: nn.Module, settings: Settings) -> tuple[str, ...]:
    """What the names of new parts begin with: the head, and heads that exist in training only."""
    from zoo.models.auxiliary import AuxiliaryHead

    parts = model.named_modules()
    fresh = [name for name, part in parts if isinstance(part, AuxiliaryHead)] + [settings.fresh]
    return tuple(f"{name}." for name in fresh)


def stage_of(name: str, model: nn.Module) -> str:
    """The stage that a parameter is of; in a stage that is itself a long chain, the part of it."""
    first, _, rest = name.partition(".")
    inner = model.get_submodule(first)
    chained = type(inner).__name__ == "Sequential" and len(inner) > 1  # type: ignore[arg-type]
    second = rest.partition(".")[0]
    return f"{first}.{second}" if chained and second.isdecimal() else first
