"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2), Adam and SGD, by torch.optim.

The arithmetic is torch.optim's functional forms with the fused kernels: on a CPU each number passes
through the processor once instead of eight times, on a GPU a step is a few launches. Only what
torch.optim remembers is kept here, because making one of its optimizer objects imports torch's
compiler, which takes two seconds: more than a whole fine-tune on cached features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    import torch
    from torch import nn

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class ParamGroup(TypedDict):
    """Parameters that move alike: at `share` of the peak rate; lr is that of the next step."""

    params: list[torch.Tensor]
    lr: float
    share: float
    weight_decay: float


class Optimizer:
    """name: adamw, adam (Kingma and Ba 2015, arXiv:1412.6980: decay through the gradient) or sgd.

    state holds for each parameter what the optimizer remembers: exp_avg, exp_avg_sq and step of
    Adam; velocity of SGD with momentum.
    """

    def __init__(self, name: str, param_groups: list[ParamGroup], momentum: float = 0.0) -> None:
        self.name, self.param_groups, self.momentum = name, param_groups, momentum
        self.state: dict[torch.Tensor, dict[str, torch.Tensor]] = {}

    def step(self) -> None:
        """Move the parameters that have a gradient."""
        import torch

        move = self._sgd if self.name == "sgd" else self._adam
        with torch.no_grad():
            for group in self.param_groups:
                moved = [each for each in group["params"] if each.grad is not None]
                if moved:
                    move(moved, group["lr"], group["weight_decay"])

    def _adam(self, parameters: list[torch.Tensor], lr: float, weight_decay: float) -> None:
        import torch
        from torch.optim.adam import adam
        from torch.optim.adamw import adamw

        for each in parameters:
            if each not in self.state:
                moments = {name: torch.zeros_like(each) for name in ("exp_avg", "exp_avg_sq")}
                self.state[each] = moments | {"step": torch.zeros((), device=each.device)}
        means, squares, steps = (
            [self.state[each][name] for each in parameters]
            for name in ("exp_avg", "exp_avg_sq", "step")
        )
        update = adamw if self.name == "adamw" else adam
        update(
            parameters, _gradients(parameters), means, squares, [], steps, fused=True, lr=lr,
            beta1=BETA1, beta2=BETA2, weight_decay=weight_decay, eps=EPSILON, amsgrad=False,
            maximize=False,
        )  # fmt: skip

    def _sgd(self, parameters: list[torch.Tensor], lr: float, weight_decay: float) -> None:
        from torch.optim.sgd import sgd

        new = [each for each in parameters if each not in self.state]
        # The first velocity is the gradient: who has none yet is moved apart from the others.
        for some in (new, [each for each in parameters if each in self.state]):
            velocities = [self.state.get(each, {}).get("velocity") for each in some]
            sgd(
                some, _gradients(some), velocities, fused=True, lr=lr, momentum=self.momentum,
                weight_decay=weight_decay, dampening=0.0, nesterov=False, maximize=False,
            )  # fmt: skip
            for each, velocity in zip(some, velocities, strict=True):
                if velocity is not None:
                    self.state[each] = {"velocity": velocity}

    def restore(self, parameter: torch.Tensor, state: dict[str, torch.Tensor]) -> None:
        """Take what was remembered of it, in its memory format: the kernels rely on that."""
        import torch

        self.state[parameter] = {
            key: torch.empty_like(parameter if value.ndim else value, device=parameter.device)
            .copy_(value)
            .detach()
            for key, value in state.items()
        }


def _gradients(parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return them in the parameters' memory format: the kernels go through both in one order."""
    import torch

    pairs = [(each, each.grad) for each in parameters if each.grad is not None]
    return [
        gradient
        if gradient.stride() == parameter.stride()
        else torch.empty_like(parameter).copy_(gradient)
        for parameter, gradient in pairs
    ]


def average(means: nn.Module, model: nn.Module, most: float, done: int) -> None:
    """Move a running mean towards the weights, faster at first (Tarvainen, Valpola 2017).

    most: the share of itself that it keeps in a step, in the end. done: steps before this one.
    """
    import torch

    share = 1 - min(most, (1 + done) / (10 + done))
    old, new = means.state_dict(), model.state_dict()
    moving = [name for name, value in new.items() if value.is_floating_point()]
    with torch.no_grad():
        torch._foreach_lerp_([old[name] for name in moving], [new[name] for name in moving], share)
        for name in new.keys() - set(moving):
            old[name].copy_(new[name])
