"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2), as torch.optim has it.

Ours because making one of torch.optim's imports torch's compiler, which takes two seconds: more
than a whole fine-tune on cached features. The test compares the two step by step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class AdamW:
    """groups: dicts of `params`, `lr` and `weight_decay`; lr may change from step to step.

    state holds for each parameter its two moments and the number of steps, as tensors.
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
        import torch

        gradient = parameter.grad
        assert gradient is not None
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
