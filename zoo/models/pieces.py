"""Stages that a library's model has in its forward, and not as children of its own.

A transformer adds its class token and positions between two children; the head module of a
convolutional network pools before its last Linear. Each such stage is a twin: a shallow copy of the
model that holds fewer of its parts and runs one of the model's own methods. No arithmetic is
written anew here, and `structure` proves that the chain computes what the model does.

`published` says how such a chain's tensors are called in files: pairs of a prefix in the chain and
the one in the file, the first that fits; other names are the same.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, nn

from zoo.catalog.spec import Published

M = TypeVar("M", bound=nn.Module)
Forward = Callable[..., Tensor]


def tokens(model: nn.Module, head: str) -> tuple[nn.Sequential, Published] | None:
    """Return a transformer as `embed`, `blocks`, `norm`, `pool`, `head`; None for other models.

    embed: patches with class token and positions, N T C. pool: what is between the last norm and
    the head, N C.
    """
    children = dict(model.named_children())
    if {"conv_proj", "encoder", "heads"} <= children.keys():
        return _torchvision_tokens(model, head)
    names = list(children)
    blocks = children.get("blocks")
    if not {"blocks", "norm"} <= children.keys() or not isinstance(
        blocks, nn.Sequential | nn.ModuleList
    ):
        return None
    at, top = names.index("blocks"), head.split(".")[0]
    first, last = names[:at], [name for name in names[at + 1 :] if name not in ("norm", top)]
    chain = nn.Sequential(
        OrderedDict(
            embed=twin(model, _features, first, blocks=nn.Sequential(), norm=nn.Identity()),
            blocks=_in_a_row(model, blocks),
            norm=children["norm"],
            pool=twin(model, _pooled, last, own=False),
            head=model.get_submodule(head),
        )
    )
    return chain, (("embed.", ""), ("pool.", ""), ("head.", f"{head}."))


def pooled(
    model: nn.Module, head: str, apart: bool = True
) -> tuple[nn.Sequential, Published] | None:
    """Return the model's children, the head's module in two: `pool`, and its last layer `head`.

    apart: a dropout of the head's module that drops anything is a stage between them, `drop`. In
    `pool` it would belong to the trained part, and the features be kept before their pooling.
    """
    top, _, inner = head.partition(".")
    children = dict(model.named_children())
    before = OrderedDict((n, child) for n, child in children.items() if n != top)
    if not inner or {"pool", "drop", "head"} & before.keys():
        return None
    own = children[top]
    if type(own) is nn.Sequential:
        return None
    drops = [name for name, part in own.named_modules() if _drops(part)]
    if apart and not drops:
        return None
    before["pool"] = without(own, inner)
    if apart:
        before["pool"] = without(before["pool"], drops[-1])
        before["drop"] = own.get_submodule(drops[-1])
    before["head"] = model.get_submodule(head)
    return nn.Sequential(before), (("pool.", f"{top}."), ("head.", f"{head}."))


def _drops(part: nn.Module) -> bool:
    return isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0


def backbone(model: nn.Module, head: str) -> tuple[nn.Sequential, Published]:
    """Return the whole model without its last layer, and that layer."""
    parts = OrderedDict(backbone=without(model, head), head=model.get_submodule(head))
    return nn.Sequential(parts), (("backbone.", ""), ("head.", f"{head}."))


ON_FEATURES: Published = (("backbone.", ""),)  # files have no head that fits


def on_features(model: nn.Module, num_classes: int) -> nn.Sequential:
    """Return a model of timm without its classifier, and a new head on its features, N D."""
    head = nn.Linear(width(model), num_classes)
    return nn.Sequential(OrderedDict(backbone=model, head=head))


def width(model: nn.Module) -> int:
    """Return D, the length of the features that a model of timm gives, as it says."""
    return int(getattr(model, "head_hidden_size", 0) or getattr(model, "num_features", 0))


def twin(
    model: M, forward: Forward, keep: Iterable[str], own: bool = True, **instead: nn.Module
) -> M:
    """Return a shallow copy with the children in `keep`, and these `instead`; others are Identity.

    own: whether it holds the model's own parameters and buffers, too.
    """
    made = copy.copy(model)
    keep = set(keep)
    parts = {n: child if n in keep else nn.Identity() for n, child in model.named_children()}
    made._modules = {**model._modules, **parts, **instead}
    made._parameters = dict(model._parameters) if own else {}
    made._buffers = dict(model._buffers) if own else {}
    made.__class__ = _running(type(model), forward)  # type: ignore[assignment, arg-type]
    return made


def without(module: M, path: str) -> M:
    """Return a shallow copy of `module` with nothing at the dotted `path`."""
    return swap(module, path, nn.Identity())


def swap(module: M, path: str, new: nn.Module) -> M:
    """Return a shallow copy of `module` with another child at the dotted `path`."""
    name, _, rest = path.partition(".")
    made = copy.copy(module)
    made._modules = dict(module._modules)
    made._modules[name] = swap(module.get_submodule(name), rest, new) if rest else new
    return made


@cache
def _running(kind: type[nn.Module], forward: Forward) -> type[nn.Module]:
    """Return a class whose forward is another one."""
    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


def _features(self: nn.Module, x: Tensor) -> Tensor:
    return self.forward_features(x)  # type: ignore[operator,no-any-return]


def _pooled(self: nn.Module, x: Tensor) -> Tensor:
    return self.forward_head(x, pre_logits=True)  # type: ignore[operator,no-any-return]


def _in_a_row(model: nn.Module, blocks: nn.Module) -> nn.Sequential:
    """Return the blocks; each looks up the rotary positions itself where the model has them."""
    rope = getattr(model, "rope", None)
    parts = OrderedDict(blocks.named_children())
    if isinstance(rope, nn.Module) and not isinstance(rope, nn.Identity):
        grid = None if hasattr(rope, "feat_shape") else model.get_submodule("patch_embed").grid_size
        for name, block in parts.items():
            own = [child for child, _ in block.named_children()]
            parts[name] = twin(block, _turned, own, positions=rope)
            setattr(parts[name], "positions_grid", grid)  # noqa: B010
    return nn.Sequential(parts)


def _turned(self: nn.Module, x: Tensor) -> Tensor:
    grid = self.positions_grid
    turns = self.positions.get_embed() if grid is None else self.positions.get_embed(shape=grid)  # type: ignore[operator,union-attr]
    return super(type(self), self).forward(x, rope=turns)  # type: ignore[misc,no-any-return]


def _torchvision_tokens(model: nn.Module, head: str) -> tuple[nn.Sequential, Published]:
    encoder = model.get_submodule("encoder")
    hollow = swap(swap(encoder, "layers", nn.Sequential()), "ln", nn.Identity())
    layers = encoder.get_submodule("layers").children()
    chain = nn.Sequential(
        OrderedDict(
            embed=twin(model, _embedded, ["conv_proj"], encoder=hollow),
            blocks=nn.Sequential(*layers),
            norm=encoder.get_submodule("ln"),
            pool=_FirstToken(),
            head=model.get_submodule(head),
        )
    )
    names = (("embed.", ""), ("blocks.", "encoder.layers.encoder_layer_"), ("norm.", "encoder.ln."))
    return chain, (*names, ("head.", f"{head}."))


def _embedded(self: nn.Module, x: Tensor) -> Tensor:
    x = self._process_input(x)  # type: ignore[operator]
    token = self.class_token.expand(x.shape[0], -1, -1)  # type: ignore[operator]
    return self.encoder(torch.cat([token, x], dim=1))  # type: ignore[operator,no-any-return]


class _FirstToken(nn.Module):
    """N T C to N C: the class token."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]
