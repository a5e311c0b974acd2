"""What a chain's last layer is, and whether a temperature can be folded into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


def last_layer(model: nn.Module, head: str) -> nn.Module | None:
    """The last part of the head that has parameters of its own."""
    layers = [
        part
        for part in model.get_submodule(head).modules()
        if any(True for _ in part.parameters(recurse=False))
    ]
    return layers[-1] if layers else None


def obstacle(model: nn.Module, head: str, inputs: torch.Tensor) -> str:
    """Why dividing the head's last layer does not divide the model's scores, or nothing.

    Tried out: with the layer halved, which is exact, the scores of these inputs must be halved.
    The model is put in eval mode and its parameters are as they were.
    """
    import torch
    from torch import nn

    layer = last_layer(model, head)
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return f"the head ends in a {type(layer).__name__}"
    kept = [parameter.detach().clone() for parameter in layer.parameters()]
    model.eval()
    with torch.inference_mode():
        before = model(inputs)
    try:
        divide(layer, 2.0)
        with torch.inference_mode():
            halved = model(inputs)
    finally:
        with torch.no_grad():
            for parameter, value in zip(layer.parameters(), kept, strict=True):
                parameter.copy_(value)
    if torch.allclose(2 * halved, before, rtol=1e-5, atol=1e-6 * float(before.abs().max())):
        return ""
    return "what follows the head's last layer does not scale with it"


def fold_temperature(model: nn.Module, head: str, temperature: float) -> None:
    """Divides the scores of a model without an `obstacle` by the temperature."""
    layer = last_layer(model, head)
    if layer is not None and temperature != 1:
        divide(layer, temperature)


def divide(layer: nn.Module, by: float) -> None:
    import torch

    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.div_(by)
