"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2), Adam and SGD, as torch.optim.

Ours because making one of torch.optim's imports torch's compiler, which takes two seconds: more
than a whole fine-tune on cached features. The tests compare them with torch's step by step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def optimizer(name: str, groups: list[dict[str, Any]], momentum: float) -> Optimizer:
    """The optimizer that a recipe names: adamw, adam or sgd."""
    if name == "sgd":
        return SGD(groups, momentum)
    return AdamW(groups) if name == "adamw" else Adam(groups)


def clip(model: nn.Module, norm: float) -> None:
    """Scales all gradients down together where their norm is larger (Pascanu 2013)."""
    import torch

    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    length = torch.stack([gradient.norm() for gradient in gradients]).norm()
    for gradient in gradients:
        gradient.mul_(torch.clamp(norm / (length + 1e-6), max=1.0))


class Optimizer:
    """groups: dicts of `params`, `lr` and `weight_decay`; lr may change from step to step.

    state holds for each parameter what the optimizer remembers, as tensors.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.param_groups = groups
        self.state: dict[torch.Tensor, dict[str, torch.Tensor]] = {}

    def zero_grad(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def step(self) -> None:
        import torch

        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self.update(parameter, group["lr"], group["weight_decay"])

    def update(self, parameter: torch.Tensor, lr: float, weight_decay: float) -> None:
        raise NotImplementedError


class AdamW(Optimizer):
    """Weight decay apart from the gradient. Remembers two moments and the number of steps."""

    def update(self, parameter: torch.Tensor, lr: float, weight_decay: float) -> None:
        assert parameter.grad is not None
        self.move(parameter, parameter.grad, lr, weight_decay)

    def move(
        self, parameter: torch.Tensor, gradient: torch.Tensor, lr: float, weight_decay: float
    ) -> None:
        import torch

        if parameter not in self.state:
            self.state[parameter] = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        state = self.state[parameter]
        state["step"] += 1
        step = int(state["step"])
        state["exp_avg"].lerp_(gradient, 1 - BETA1)
        state["exp_avg_sq"].mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        parameter.mul_(1 - lr * weight_decay)
        root = state["exp_avg_sq"].sqrt().div_(math.sqrt(1 - BETA2**step)).add_(EPSILON)
        parameter.addcdiv_(state["exp_avg"], root, value=-lr / (1 - BETA1**step))


class Adam(AdamW):
    """Kingma and Ba 2015, arXiv:1412.6980: weight decay is a part of the gradient."""

    def update(self, parameter: torch.Tensor, lr: float, weight_decay: float) -> None:
        assert parameter.grad is not None
        self.move(parameter, parameter.grad + weight_decay * parameter, lr, 0.0)


class SGD(Optimizer):
    """Gradient descent, with momentum where asked for. Remembers the velocity."""

    def __init__(self, groups: list[dict[str, Any]], momentum: float) -> None:
        super().__init__(groups)
        self.momentum = momentum

    def update(self, parameter: torch.Tensor, lr: float, weight_decay: float) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if weight_decay:
            gradient = gradient + weight_decay * parameter
        if self.momentum:
            if parameter in self.state:
                self.state[parameter]["velocity"].mul_(self.momentum).add_(gradient)
            else:
                self.state[parameter] = {"velocity": gradient.clone()}
            gradient = self.state[parameter]["velocity"]
        parameter.add_(gradient, alpha=-lr)
