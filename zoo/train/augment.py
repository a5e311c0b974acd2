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
from contextlib import AbstractContextManager
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal

from PIL import Image

from zoo.catalog import Preprocess
from zoo.data.preprocess import Pixels, fill, to_array
from zoo.data.views import AREA, JITTER, RATIO, generator
from zoo.models.lazy_compiler import library

if TYPE_CHECKING:
    import torch

Kind = Literal["none", "light", "trivial", "randaugment", "autoaugment"]

DRAWS = frozenset(
    ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "uniform_",
     "normal_", "random_", "bernoulli_", "exponential_")
)  # fmt: skip


def augmented(
    image: Image.Image,
    preprocess: Preprocess,
    kind: Kind,
    key: tuple[int, int, str],
    *,
    flip: bool = True,
) -> Pixels:
    """Return an upright picture in the Preprocess' mode, changed anew: uint8 H W C.

    key: seed, epoch and the digest of the photo's content.
    """
    import torch

    change = _transforms(kind, preprocess, flip)
    draws = torch.Generator().manual_seed(int(generator("augment", *key).integers(2**63)))
    with _draws_from()(draws):
        return to_array(change(image), preprocess)


@lru_cache(8)
def _transforms(
    kind: Kind, preprocess: Preprocess, flip: bool
) -> Callable[[Image.Image], Image.Image]:
    """Return a random resized crop, a mirror image in half of the cases, and what `kind` adds."""
    library("torchvision")
    from torchvision.transforms import InterpolationMode, v2

    _, height, width = preprocess.shape
    ratio = [width / height * each for each in RATIO]
    crop = v2.RandomResizedCrop(
        (height, width), AREA, ratio, InterpolationMode(preprocess.interpolation)
    )
    moved = {"interpolation": InterpolationMode.BILINEAR, "fill": fill(preprocess)}
    more = {
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
def _draws_from() -> Callable[[torch.Generator], AbstractContextManager[object]]:
    """Make the context in which this thread's random torch functions draw from a generator."""
    from torch.overrides import TorchFunctionMode

    class DrawsFrom(TorchFunctionMode):
        def __init__(self, draws: torch.Generator) -> None:
            super().__init__()
            self.draws = draws

        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            more = {"generator": self.draws} if function.__name__ in DRAWS else {}
            return function(*args, **more | (kwargs or {}))

    return DrawsFrom
