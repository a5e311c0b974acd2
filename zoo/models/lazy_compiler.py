"""timm and torchvision, imported without torch's compiler, which they need in rare calls only.

Two lines of theirs import the compiler and with it 900 modules: torchvision's roi_align takes a
function from there, timm marks methods with `torch.compiler.disable`. That is 1.5 of the 4.1 CPU
seconds of `import timm` (torch 2.15). Here both get what finds the compiler when it is called.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

_COMPILER, _USED = "torch._dynamo", "torch._dynamo.utils"
_importing = threading.Lock()


def library(name: str) -> ModuleType:
    """Return the module `timm` or `torchvision`. Raises ImportError."""
    with _importing:
        if name in sys.modules or _COMPILER in sys.modules:
            return importlib.import_module(name)
        with _compiler_later():
            return importlib.import_module(name)


@contextmanager
def _compiler_later() -> Iterator[None]:
    """Let what is imported meanwhile have the compiler's functions without its modules."""
    import torch
    from torch._compile import _disable_dynamo  # `torch.compiler.disable` of a later moment

    def disable(
        fn: Callable[..., object] | None = None, recursive: bool = True, **_: object
    ) -> Callable[..., object]:
        return _disable_dynamo(fn, recursive)

    before = torch.compiler.disable
    torch.compiler.disable = disable
    sys.modules[_USED] = _Later(_USED)
    try:
        yield
    finally:
        torch.compiler.disable = before
        del sys.modules[_USED]


class _Later(ModuleType):
    """A module whose functions are found when they are called."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*given: object, **named: object) -> object:
            found: object = getattr(importlib.import_module(_USED), name)(*given, **named)
            return found

        return call
