"""Device, threads, allocator and seed: each choice comes with its reason.

Heavy imports stay inside functions: the allocator must be set before torch allocates anything.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import config, extras
from zoo.errors import UsageError, meant
from zoo.machine import cores

if TYPE_CHECKING:
    import torch

MMAP_MAX, TRIM_THRESHOLD, TOP_PAD, ARENA_MAX = -4, -1, -2, -8  # mallopt's names, malloc.h


@dataclass(frozen=True, slots=True)
class Device:
    """Where a chain runs, in which precision, with how many threads, and why."""

    name: str
    precision: str
    threads: int
    reason: str

    @property
    def is_cpu(self) -> bool:
        return self.name == "cpu"

    @property
    def torch(self) -> torch.device:
        import torch

        return torch.device(self.name)


def choose(wanted: str = "auto", precision: str = "fp32") -> Device:
    """Return the device that a flag asks for. Raises UsageError where it is not there.

    torch is asked, and so imported, only where there may be a GPU.
    """
    asked = "asked for"
    if wanted == "auto" and (said := config.value("device")):
        wanted, asked = said, f"as {config.origin('device')} says"
    kind = wanted.partition(":")[0]
    if wanted == "cpu" or (wanted == "auto" and not may_have_gpu()):
        return Device("cpu", precision, cores(), asked if wanted == "cpu" else "no GPU found")
    if kind not in ("auto", "cuda", "mps"):
        raise UsageError(
            f"--device {wanted}: no such device",
            f"{meant('device', wanted)} give auto, cpu, cuda, cuda:N or mps".strip(),
        )
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    name, reason = wanted, asked
    if wanted == "auto":
        mps = mps and int(os.environ.get("WORLD_SIZE", "1")) == 1  # processes cannot meet on it
        name = "cuda" if cuda else "mps" if mps else "cpu"
        reason = {"cuda": "a CUDA device is there", "mps": "an Apple GPU is there"}.get(
            name, "no GPU found"
        )
    have = ["cpu"] + ["cuda"] * cuda + ["mps"] * mps
    kind, _, number = name.partition(":")
    if kind not in have or (number and int(number) >= torch.cuda.device_count()):
        raise UsageError(f"--device {wanted}: no such device here", f"available: {', '.join(have)}")
    if kind != "cpu" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        name, reason = _of_process(name), f"{reason}, each process of torchrun has its own"
    if kind == "cuda":
        reason += f": {torch.cuda.get_device_name(name)}"
        no_tf32()
    return Device(name, precision, cores(), reason)


def may_have_gpu() -> bool:
    """Return False only where none can be used: no torch, no driver's device file."""
    if not extras.has("torch"):
        return False
    if sys.platform != "linux":
        return True
    found = any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))
    return found or any(name.startswith("nvidia") for name in os.listdir("/dev"))


def _of_process(name: str) -> str:
    """Return the device of this process, one of those that torchrun started. Raises UsageError."""
    import torch

    own, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if name != "cuda":
        raise UsageError(f"--device {name} under torchrun", "give cuda, each takes its own, or cpu")
    if own >= count:
        raise UsageError(
            f"process {own + 1} of this machine has no CUDA device of its own: there are {count}",
            f"torchrun --nproc-per-node {count}, or --device cpu",
        )
    return f"cuda:{own}"


def no_tf32() -> None:
    """Make fp32 mean fp32: by default cuDNN rounds the inputs of convolutions to ten bits."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def autocast(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager[object]:
    """Return the context in which products are rounded to bf16, or one that does nothing."""
    import torch

    return torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()


def tune_allocator() -> bool:
    """Tell glibc to keep the memory of large tensors instead of giving it back at each batch.

    Given back, it is faulted in again page by page: on some machines half of a forward pass, on
    others little. Must run before the worker threads start.
    Returns whether there was such an allocator.
    """
    if not sys.platform.startswith("linux") or os.environ.get("ZOO_MALLOC") == "default":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl
        return False
    settings = ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 64 << 20), (ARENA_MAX, 1))
    return all(mallopt(option, value) == 1 for option, value in settings)


def trim() -> None:
    """Give memory that is free in the heap back to the system, where there is such an allocator.

    With the settings above it never is by itself: code that oneDNN makes would find no place.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def seed_all(*key: object) -> None:
    """Seed torch with f(key): no random stream has to be saved to go on from a point."""
    import torch

    from zoo.data.views import generator

    seed = int(generator(*key).integers(2**63))
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        torch.manual_seed(seed)
    else:  # there it would note down, for a GPU that never comes, where it was called from: 0.5 ms
        torch.default_generator.manual_seed(seed)
