"""torchvision's transforms on a decoded photo, f(seed, epoch, photo), in any thread.

torchvision draws from torch's one global generator, which the threads that decode share with each
other and with the dropout of the step that runs beside them. A TorchFunctionMode, which holds in
its own thread only, hands every draw a generator of the call: no lock, and the global stream is
left alone. RandAugment: Cubuk 2019, arXiv:1909.13719; AutoAugment's policy of ImageNet: Cubuk 2018,
arXiv:1805.09501; TrivialAugmentWide: Müller 2021, arXiv:2103.10158. What a rotation uncovers is
grey, as the padding of `fit = "pad"` is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Literal

from PIL import Image

from zoo.catalog import Preprocess
from zoo.data.preprocess import Pixels, fill, to_array
from zoo.data.views import AREA, JITTER, RATIO, generator

Kind = Literal["none", "light", "trivial", "randaugment", "autoaugment"]

DRAWS = frozenset(
    ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "uniform_",
     "normal_", "random_", "bernoulli_", "exponential_")
)  # fmt: skip


def augmented(
    image: Image.Image,
    preprocess: Preprocess,
    kind: Kind,
    *,
    seed: int,
    epoch: int,
    digest: str,
    flip: bool = True,
) -> Pixels:
    """An upright picture in the Preprocess' mode, changed anew in each epoch: uint8 H W C."""
    import torch

    change = transforms(kind, preprocess, flip)
    own = torch.Generator().manual_seed(
        int(generator("augment", seed, epoch, digest).integers(2**63))
    )
    with draws_from()(own):
        return to_array(change(image), preprocess)


@lru_cache(8)
def transforms(
    kind: Kind, preprocess: Preprocess, flip: bool
) -> Callable[[Image.Image], Image.Image]:
    """A random resized crop, a mirror image in half of the cases, and what `kind` adds to them."""
    from torchvision.transforms import InterpolationMode, v2

    crop = v2.RandomResizedCrop(
        preprocess.size, AREA, RATIO, InterpolationMode(preprocess.interpolation)
    )
    moved = {"interpolation": InterpolationMode.BILINEAR, "fill": fill(preprocess)}
    more: dict[str, Callable[[], Any]] = {
        "light": lambda: v2.ColorJitter(JITTER, JITTER, JITTER),
        "trivial": lambda: v2.TrivialAugmentWide(**moved),
        "randaugment": lambda: v2.RandAugment(**moved),
        "autoaugment": lambda: v2.AutoAugment(**moved),
    }
    chain: Callable[[Image.Image], Image.Image] = v2.Compose(
        [crop, *[v2.RandomHorizontalFlip()] * flip, more[kind]()]
    )
    return chain


@cache
def draws_from() -> Callable[[Any], Any]:
    """The context in which this thread's random torch functions draw from the generator given."""
    from torch.overrides import TorchFunctionMode

    class DrawsFrom(TorchFunctionMode):
        def __init__(self, own: Any) -> None:
            super().__init__()
            self.own = own

        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = dict(kwargs or {})
            if function.__name__ in DRAWS:
                kwargs.setdefault("generator", self.own)
            return function(*args, **kwargs)

    return DrawsFrom
