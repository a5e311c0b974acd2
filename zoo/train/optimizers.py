"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2), Adam and SGD, as torch.optim.

Ours because making one of torch.optim's imports torch's compiler, which takes two seconds: more
than a whole fine-tune on cached features. The tests compare them with torch's step by step. The
arithmetic is torch's own kernels, one call for all parameters of a group: on a CPU each number
passes through the processor once instead of eight times, on a GPU a step is a few launches.
"""

from __future__ import annotations

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
    length = torch.stack(torch._foreach_norm(gradients)).norm()
    torch._foreach_mul_(gradients, torch.clamp(norm / (length + 1e-6), max=1.0))


def gradients(parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    """In the parameters' memory format: the kernels go through both in one order, unchecked."""
    import torch

    pairs = [(each, each.grad) for each in parameters if each.grad is not None]
    return [
        gradient
        if gradient.stride() == parameter.stride()
        else torch.empty_like(parameter).copy_(gradient)
        for parameter, gradient in pairs
    ]


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
                moved = [each for each in group["params"] if each.grad is not None]
                if moved:
                    self.update(moved, group["lr"], group["weight_decay"])

    def restore(self, parameter: torch.Tensor, state: dict[str, torch.Tensor]) -> None:
        """What was remembered of it, in its memory format: the kernels take that for granted."""
        import torch

        self.state[parameter] = {
            key: torch.empty_like(parameter if value.ndim else value, device=parameter.device)
            .copy_(value)
            .detach()
            for key, value in state.items()
        }

    def update(self, parameters: list[torch.Tensor], lr: float, weight_decay: float) -> None:
        """Moves parameters that have a gradient."""
        raise NotImplementedError


class AdamW(Optimizer):
    """Weight decay apart from the gradient. Remembers two moments and the number of steps."""

    kernel = "_fused_adamw_"

    def update(self, parameters: list[torch.Tensor], lr: float, weight_decay: float) -> None:
        import torch

        for parameter in parameters:
            if parameter not in self.state:
                self.state[parameter] = self.beginning(parameter)
        states = [self.state[parameter] for parameter in parameters]
        means, squares, counts = (
            [state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")
        )
        torch._foreach_add_(counts, 1)
        getattr(torch, self.kernel)(
            parameters,
            gradients(parameters),
            means,
            squares,
            [],
            counts,
            lr=lr,
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def beginning(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        import torch

        return {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }


class Adam(AdamW):
    """Kingma and Ba 2015, arXiv:1412.6980: weight decay is a part of the gradient."""

    kernel = "_fused_adam_"


class SGD(Optimizer):
    """Gradient descent, with momentum where asked for. Remembers the velocity."""

    def __init__(self, groups: list[dict[str, Any]], momentum: float) -> None:
        super().__init__(groups)
        self.momentum = momentum

    def update(self, parameters: list[torch.Tensor], lr: float, weight_decay: float) -> None:
        known = [each for each in parameters if each in self.state]
        new = [each for each in parameters if each not in self.state]
        if new:
            self.move(new, lr, weight_decay, first=True)
        if known:
            self.move(known, lr, weight_decay, first=False)

    def move(
        self, parameters: list[torch.Tensor], lr: float, weight_decay: float, *, first: bool
    ) -> None:
        """first: they have no velocity yet; it becomes their gradient."""
        import torch

        if first and self.momentum:
            for each in parameters:
                self.state[each] = {"velocity": torch.empty_like(each)}
        torch._fused_sgd_(
            parameters,
            gradients(parameters),
            [self.state[each]["velocity"] for each in parameters] if self.momentum else [],
            weight_decay=weight_decay,
            momentum=self.momentum,
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=first,
        )
