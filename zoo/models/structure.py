"""Is this model a chain, and of which stages? Proved, not guessed.

A model and the chain of its children are both run on the meta device, where tensors have shapes and
no data, and every operator is written down with what it was given. The chain is accepted only if
the two records are the same, operator by operator and operand by operand, in eval and in train
mode: then the outputs are equal for every input, to the last bit. That costs milliseconds whatever
the size of the model. Where the children are not a chain, the stages of `pieces` are tried, and at
last `backbone` (the model without its head) and `head`, all proved in the same way.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from zoo.catalog.spec import Preprocess, Published, published_name
from zoo.models import pieces


@dataclass(frozen=True, slots=True)
class Structure:
    """The stages of a chain, its default cut, its head; see ModelSpec for `published`."""

    stages: tuple[str, ...]
    cut: str
    head: str
    published: Published = ()


class NotAChain(Exception):
    """The model cannot be written as stages that end in one head; says why."""


def find_structure(
    make: Callable[[], nn.Module], hint: object, num_classes: int, preprocess: Preprocess
) -> Structure:
    """Return the finest form of the model that is proved equal to it.

    make: gives the model on the meta device. hint: what the library says its head is called.
    Raises NotAChain with the reason.
    """
    try:
        return _find(make(), hint, num_classes, preprocess, warm=False)
    except NotAChain:  # some compute constants in their first run and keep them: run them before
        return _find(make(), hint, num_classes, preprocess, warm=True)


def _find(
    model: nn.Module, hint: object, num_classes: int, preprocess: Preprocess, warm: bool
) -> Structure:
    head = _head_name(model, hint, num_classes)
    x = torch.empty(2, *preprocess.shape, device="meta")
    if warm:
        model.eval()(x)
    proof = _Proof(model, x)
    for stages, published in _forms(model, head):
        chain = assemble(model, stages, published)
        if proof.holds(chain, published):
            name = "head" if published else head
            return Structure(stages, _cut(chain, name), name, published)
    raise NotAChain(f"its answer is more than its last layer ({head}) on top of the rest")


def features_structure(model: nn.Module, preprocess: Preprocess) -> Structure:
    """Return the whole model under a new head, as its own classifier is more than one layer.

    model: without its classifier, on the meta device. Raises NotAChain where its features are not
    one row a picture.
    """
    x = torch.empty(2, *preprocess.shape, device="meta")
    with torch.no_grad():
        features = model.eval()(x)
    shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    if shape != (2, pieces.width(model)):
        raise NotAChain(f"without its classifier it gives {shape}, and not a row of features")
    return Structure(("backbone", "head"), "backbone", "head", pieces.ON_FEATURES)


def assemble(model: nn.Module, stages: tuple[str, ...], published: Published) -> nn.Sequential:
    """Return the chain of these stages; those that the model does not have are inserted."""
    head = dict(published).get("head.", "").rstrip(".")
    if not published:
        made: dict[str, nn.Module] = {
            "flatten": nn.Flatten(),
            "avgpool": nn.AdaptiveAvgPool2d((1, 1)),
            **dict(model.named_children()),
        }
        return nn.Sequential(OrderedDict((name, made[name]) for name in stages))
    forms = {form[0]: form[1] for form in _pieced(model, head)}
    if stages not in forms:
        raise KeyError(stages[0])
    return forms[stages]


def _pieced(
    model: nn.Module, head: str
) -> Iterator[tuple[tuple[str, ...], nn.Sequential, Published]]:
    """Yield the forms whose stages are no children of the model, finest first."""
    whole = partial(pieces.pooled, apart=False)
    for form in (pieces.pooled, whole, pieces.tokens, pieces.backbone):
        found = form(model, head)
        if found:
            chain, published = found
            yield tuple(name for name, _ in chain.named_children()), chain, published


def _head_name(model: nn.Module, hint: object, num_classes: int) -> str:
    """Return the dotted name of the last Linear, or 1 x 1 convolution, that gives the classes."""
    names = [name for name, module in model.named_modules() if _gives(module, num_classes)]
    if not names:
        raise NotAChain(f"it has no last layer that gives its {num_classes} classes")
    return hint if isinstance(hint, str) and hint in names else names[-1]


def _gives(module: nn.Module, num_classes: int) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.out_channels == num_classes
    return isinstance(module, nn.Linear) and module.out_features == num_classes


def _forms(model: nn.Module, head: str) -> Iterator[tuple[tuple[str, ...], Published]]:
    """Yield the ways in which the model may be a chain, the finest first."""
    pieced = [(stages, published) for stages, _, published in _pieced(model, head)]
    yield from pieced[:-1]
    for stages in _rows_of_children(model, head):
        yield stages, ()
    yield pieced[-1]


def _rows_of_children(model: nn.Module, head: str) -> Iterator[tuple[str, ...]]:
    """Yield the model's children, in order, with the pooling that its forward may add."""
    children = tuple(name for name, _ in model.named_children())
    at = children.index(head.split(".")[0])
    if not any(_has_parameters(model.get_submodule(name)) for name in children[:at]):
        return
    yield children
    if "flatten" in children:
        return
    yield (*children, "flatten")
    for place in (at, at - 1):  # before the head, or before the dropout that precedes it
        yield (*children[:place], "flatten", *children[place:])
        if "avgpool" not in children:
            yield (*children[:place], "avgpool", "flatten", *children[place:])


def _cut(chain: nn.Sequential, head: str) -> str:
    """Return the last place with parameters before the head; in the head's own stage, all of it.

    What that stage has before the layer (norm, a hidden layer with its ReLU) was trained, too.
    """
    top, _, inner = head.partition(".")
    own = chain.get_submodule(top)
    if type(own) is nn.Sequential and isinstance(chain.get_submodule(head), nn.Linear):
        inside = [name for name, _ in own.named_children()]
        first = own[: inside.index(inner)] if inner in inside else nn.Sequential()
        if _has_parameters(first):
            return f"{top}.{inside[len(first) - 1]}"
    cut = ""
    for name, stage in chain.named_children():
        if name == top:
            break
        if _has_parameters(stage):
            cut = name
    return cut


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


# --- the proof -------------------------------------------------------------------------------


class _Proof:
    """What the model does, written down once, to hold other forms of it against."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.keys = list(model.state_dict())
        self._x = x
        self._names = {id(t): name for name, t in model.named_parameters()}
        self._names |= {id(t): name for name, t in model.named_buffers()}
        self._eval = self._record([model.eval()])
        self._train: list[object] | None = None
        with suppress(Exception):  # some cannot train on a batch of 2: then neither can the chain
            self._train = self._record([model.train()])

    def holds(self, chain: nn.Sequential, published: Published) -> bool:
        """Whether the chain has the model's tensors, under these names, and computes the same."""
        names = [published_name(name, published) for name in chain.state_dict()]
        if (sorted(names) if published else names) != (
            sorted(self.keys) if published else self.keys
        ):
            return False
        if not any(_has_parameters(stage) for stage in list(chain)[:-1]):
            return False
        try:
            if self._record(chain.eval()) != self._eval:
                return False
            return self._train is None or self._record(chain.train()) == self._train
        except Exception:  # stages that do not even fit each other are not a chain
            return False

    def _record(self, stages: Iterable[nn.Module]) -> list[object]:
        recorder = _Recorder(self._names)
        x = self._x
        with torch.no_grad(), recorder:
            for stage in stages:
                x = stage(x)
                if not isinstance(x, Tensor):
                    raise NotAChain(f"it gives a {type(x).__name__} and not one tensor")
        return [*recorder.calls, recorder.key(x)]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operator with its operands: parameters by name, results by order of appearance."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[object] = []
        self._names = names
        self._numbers: dict[int, int] = {}
        self._alive: list[Tensor] = []  # an id is only an identity while its tensor lives

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        given = self.key((args, kwargs or {}))
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, given, self.key(out)))
        return out

    def key(self, tree: object) -> object:
        return tree_map(self._leaf, tree)

    def _leaf(self, leaf: object) -> object:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) in self._names:
            return self._names[id(leaf)]
        if id(leaf) not in self._numbers:
            self._numbers[id(leaf)] = len(self._numbers)
            self._alive.append(leaf)
        return (self._numbers[id(leaf)], tuple(leaf.shape), leaf.dtype)
