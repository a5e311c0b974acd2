"""The torch engine: any chain on any device.

On a CPU every worker thread decodes and runs its own small batch on one core: nothing waits for
anything else, and the result does not depend on the number of cores, because every call has the
same shape (short batches are padded). Nor on what else is in the batch, but for the last bits on
processors whose matrix products differ with a row's place in it.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from zoo.catalog import Preprocess
from zoo.device import Device, tune_allocator
from zoo.engine import Array, Calls, padded
from zoo.engine.fuse import fused

if TYPE_CHECKING:
    from torch import Tensor, nn

CPU_BATCH, GPU_BATCH = 8, 64
CPU_WORKERS = 32  # each holds the activations of its own batch


class TorchEngine:
    """A chain in eval mode behind a normalisation; see `Engine`."""

    def __init__(
        self,
        chain: nn.Module,
        preprocess: Preprocess,
        device: Device,
        workers: int | None = None,
        calls: Calls = "many",
    ) -> None:
        """workers: threads that decode, on a CPU each with its own forward passes."""
        import torch

        if device.is_cpu:
            tune_allocator()
        self.device = device
        self.batch = CPU_BATCH if device.is_cpu else GPU_BATCH
        if device.is_cpu and calls != "many":
            self.batch = 1
        self.workers = min(workers or device.threads, CPU_WORKERS) if device.is_cpu else 2
        self.decoders = 0 if device.is_cpu else workers or device.threads
        # Channels last is how convolutions run fastest on CPUs and on tensor cores alike.
        chain.eval().to(device.torch).to(memory_format=torch.channels_last)
        self.chain, pairs = fused(chain, preprocess.shape) if device.is_cpu else (chain, 0)
        self.chain.to(memory_format=torch.channels_last)
        form = " folded" if pairs else ""
        self.name = f"torch {torch.__version__} {device.name} {device.precision}{form}"
        self.normalise = Normalise(preprocess, device)
        self.of_thread = threading.local()

    def start_worker(self) -> None:
        import torch

        if self.device.is_cpu:
            torch.set_num_threads(1)

    def __call__(self, pixels: Array) -> Array:
        import torch

        count = len(pixels)
        with torch.inference_mode(), self.autocast(), self.own_stream():
            host = torch.from_numpy(padded(pixels, self.batch))
            full = self.normalise(pinned(host, self.device))
            result: Tensor = self.chain(full)
            return result[:count].float().cpu().numpy()

    def own_stream(self) -> contextlib.AbstractContextManager[object]:
        """Return this thread's stream of a CUDA device: one copies while another computes."""
        import torch

        if self.device.torch.type != "cuda":
            return contextlib.nullcontext()
        if not hasattr(self.of_thread, "stream"):
            self.of_thread.stream = torch.cuda.Stream(self.device.torch)  # type: ignore[no-untyped-call]
            # The parameters were copied in the stream that all threads share.
            self.of_thread.stream.wait_stream(torch.cuda.default_stream(self.device.torch))
        return torch.cuda.stream(self.of_thread.stream)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        import torch

        if self.device.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.torch.type, dtype=torch.bfloat16)


def pinned(batch: Tensor, device: Device) -> Tensor:
    """Return a tensor that CUDA copies while Python goes on: in memory that stays where it is."""
    return batch.pin_memory() if device.torch.type == "cuda" else batch


class Normalise:
    """uint8 N H W C on the host to normalised float32 N C H W on the device, channels last."""

    def __init__(self, preprocess: Preprocess, device: Device) -> None:
        import torch

        self.device = device.torch
        shape = (1, -1, 1, 1)
        self.mean = torch.tensor(preprocess.mean, device=self.device).view(shape)
        self.std = torch.tensor(preprocess.std, device=self.device).view(shape)

    def __call__(self, pixels: Tensor) -> Tensor:
        images = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        return images.float().div_(255).sub_(self.mean).div_(self.std)
