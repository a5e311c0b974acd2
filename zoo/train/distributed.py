"""The ranks: processes that torchrun starts for one training, and what they tell each other.

All have the same network and take the same steps; each computes the gradients of its share of a
batch, and the sum of all is the gradient of the batch. One all-reduce a step carries them in one
piece. DistributedDataParallel sums them during the backward pass instead, but a batch that goes
through in parts, or again in halves for want of memory, has several of those, and not as many in
every rank. The main rank alone writes and talks. Without torchrun there is one rank, which tells
itself everything, and torch.distributed is not imported.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import Interrupted, TeamError, UsageError
from zoo.metrics import Array

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.distributed.distributed_c10d import PrefixStore

MEETING = timedelta(minutes=5)
# For the slowest of them, as with its share of the features; one that died is noticed at once.
PATIENCE = timedelta(hours=2)
MOMENTS = 3.0  # seconds
FEWEST = 2  # rows of a share: of one row there is no variance for a norm to take


class Ranks:
    """This process, number `rank` of `world`. store: where one leaves word of its failure.

    Every rank must call the collective methods, in the same order. They raise TeamError where
    another rank is not there any more.
    """

    def __init__(self, rank: int = 0, world: int = 1, store: PrefixStore | None = None) -> None:
        self.rank, self.world, self.store = rank, world, store

    @property
    def main(self) -> bool:
        return self.rank == 0

    @property
    def single(self) -> bool:
        return self.world == 1

    def share(self, rows: Array) -> Array:
        """Return this rank's rows of a step; none where there are too few for all."""
        sharing = min(self.world, max(1, len(rows) // FEWEST))
        return rows[self.rank :: sharing] if self.rank < sharing else rows[:0]

    def broadcast(self, *values: float) -> tuple[float, ...]:
        """Return the main rank's numbers, in all."""
        return values if self.single else tuple(self.broadcast_array(np.array(values)).tolist())

    def all_reduce_max(self, value: float) -> float:
        """Return the largest of all ranks' numbers."""
        if self.single:
            return value
        import torch
        from torch import distributed

        told = torch.tensor([value], dtype=torch.float64)
        with self._noticing():
            distributed.all_reduce(told, distributed.ReduceOp.MAX)
        return float(told)

    def all_gather(self, record: Any) -> list[Any]:
        """Return what each rank has to say, by rank; it goes through JSON."""
        if self.single:
            return [record]
        import torch
        from torch import distributed

        said = json.dumps(record).encode()
        longest = int(self.all_reduce_max(len(said)))
        mine = torch.from_numpy(np.frombuffer(said.ljust(longest), np.uint8).copy())
        texts = [torch.empty_like(mine) for _ in range(self.world)]
        with self._noticing():
            distributed.all_gather(texts, mine)
        return [json.loads(text.numpy().tobytes()) for text in texts]

    def broadcast_array(self, array: Array) -> Array:
        """Return the main rank's array, float64; the others give one of its shape."""
        import torch
        from torch import distributed

        told = torch.from_numpy(np.array(array, np.float64))
        with self._noticing():
            distributed.broadcast(told, 0)
        return told.numpy()

    def gather_arrays(self, array: Array) -> list[Array]:
        """Return each rank's array, float64, in the main rank; in the others nothing."""
        import torch
        from torch import distributed

        shapes = self.all_gather(list(array.shape))
        with self._noticing():
            if not self.main:
                distributed.send(torch.from_numpy(np.array(array, np.float64)), 0)
                return []
            found = [torch.empty(shape, dtype=torch.float64) for shape in shapes[1:]]
            for rank, tensor in enumerate(found, 1):
                distributed.recv(tensor, rank)
        return [array, *(tensor.numpy() for tensor in found)]

    def barrier(self) -> None:
        """Wait for all to come here."""
        self.all_reduce_max(0.0)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main rank through first, then the others: what is wrong for all is said once."""
        if not self.main:
            self.barrier()
        yield
        if self.main:
            self.barrier()

    def broadcast_model(self, model: nn.Module) -> None:
        """Give all the main rank's network."""
        if self.single:
            return
        from torch import distributed

        with self._noticing():
            for tensor in model.state_dict().values():
                whole = tensor.contiguous()
                distributed.broadcast(whole, 0)
                tensor.copy_(whole)

    def all_reduce_gradients(self, model: nn.Module, loss: float, share: float) -> float:
        """Return the loss of the whole batch, its gradients left in the parameters of all.

        loss: of this rank's rows, as a part of the mean over all. share: of the rows; running
        statistics that are being taken become the mean by it.
        """
        if self.single:
            return loss
        import torch
        from torch import distributed

        parameters = [each for each in model.parameters() if each.requires_grad]
        there = [float(each.grad is not None) for each in parameters]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        statistics = _running(model)
        numbers = torch.tensor([loss, *there], device=parameters[0].device)
        parts = [*gradients, *(share * each for each in statistics), numbers]
        flat = torch.cat([part.reshape(-1) for part in parts])
        with self._noticing():
            distributed.all_reduce(flat)
        sums = torch.split(flat, [part.numel() for part in parts])
        for tensor, value in zip([*gradients, *statistics], sums, strict=False):
            tensor.copy_(value.view(tensor.shape))
        total, *used = sums[-1].tolist()
        for parameter, gradient, some in zip(parameters, gradients, used, strict=True):
            parameter.grad = gradient if some else None
        return float(total)

    # Failures.

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            code = self._failure()
            if code is not None:
                raise TeamError("", exit_code=code) from None
            raise TeamError(
                "another process of this training has died",
                "`torchrun --max-restarts 3 …` starts all of them again, where they were",
            ) from error

    def _failure(self) -> int | None:
        """Return the exit code of the rank that failed first and could say so."""
        assert self.store is not None
        try:
            return int(self.store.get("failed")) if self.store.check(["failed"]) else None
        except RuntimeError:  # the process that kept the word is gone as well
            return None

    def must_say(self, what: str, code: int) -> bool:
        """Leave word of this rank's failure; return whether the main rank does not say the same.

        What is wrong for all is found by all within moments.
        """
        assert self.store is not None
        try:
            self.store.compare_set("failed", "", str(code))
            if self.main:
                self.store.set("said", what)
                return True
            until = time.monotonic() + MOMENTS
            while not self.store.check(["said"]):
                if time.monotonic() > until:
                    return True
                time.sleep(0.05)
            return self.store.get("said").decode() != what
        except RuntimeError:  # the process that keeps the words is gone
            return True


SINGLE = Ranks()


def _running(model: nn.Module) -> list[torch.Tensor]:
    """Return the statistics that norms take from the batches of a training."""
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [part for part in model.modules() if isinstance(part, _BatchNorm) and part.training]
    both = [each for part in norms for each in (part.running_mean, part.running_var)]
    return [each for each in both if each is not None]


@contextmanager
def torchrun() -> Iterator[Ranks]:
    """Give the ranks that torchrun has made this process one of; a single one without torchrun.

    A failure ends all processes with the exit code of the first; it alone says why, the others
    raise a TeamError without words.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        yield SINGLE
        return
    ranks = _init()
    try:
        yield ranks
    except TeamError as error:
        raise error if ranks.main else TeamError("", exit_code=error.exit_code) from None
    except Exception as error:
        code = getattr(error, "exit_code", 1)
        if ranks.must_say(str(error), code) and (ranks.main or not isinstance(error, Interrupted)):
            raise
        raise TeamError("", exit_code=code) from None
    import torch.distributed

    torch.distributed.destroy_process_group()


def _init() -> Ranks:
    """Join the ranks. UsageError without torchrun's environment, TeamError if one is missing."""
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    cuda = torch.cuda.is_available() and distributed.is_nccl_available()
    try:
        store, rank, world = next(rendezvous("env://", timeout=MEETING))
        # The store may outlive a restart, and what the processes before have left in it.
        store = PrefixStore(f"zoo-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=store,
            rank=rank,
            world_size=world,
            timeout=PATIENCE,
        )
    except ValueError as error:
        raise UsageError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {error}",
            "`torchrun --nproc-per-node N -m zoo finetune …` sets all that is needed",
        ) from None
    except RuntimeError as error:
        what = f"process {os.environ['RANK']} has not met the others: {error}"
        raise TeamError(what, "where a machine has several networks: GLOO_SOCKET_IFNAME") from None
    return Ranks(rank, world, store)
