"""The processes that torchrun starts for one training, and what they tell each other.

All have the same network and take the same steps; each computes the gradients of its share of a
batch, and the sum of all is the gradient of the batch. One all-reduce a step carries them in one
piece. DistributedDataParallel sums them during the backward pass instead, but a batch that goes
through in parts, or again in halves for want of memory, has several of those, and not as many in
every process. The first process alone writes and talks. Without torchrun a team is one process,
which tells itself everything, and torch.distributed is not imported.
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


MEETING = timedelta(minutes=5)
# For the slowest of them, as with its share of the features; one that died is noticed at once.
PATIENCE = timedelta(hours=2)
MOMENTS = 3.0  # seconds
FEWEST = 2  # rows of a share: of one row there is no variance for a norm to take


class Team:
    """This process, number `rank` of `world`. store: where one leaves word of its failure."""

    def __init__(self, rank: int = 0, world: int = 1, store: Any = None) -> None:
        self.rank, self.world, self.store = rank, world, store

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.world == 1

    def share(self, rows: Array) -> Array:
        """Return this process's rows of a step; none where there are too few for all."""
        sharing = min(self.world, max(1, len(rows) // FEWEST))
        return rows[self.rank :: sharing] if self.rank < sharing else rows[:0]

    # Words. Every process must call these, in the same order.

    def from_first(self, *values: float) -> tuple[float, ...]:
        """The first process's numbers, in all."""
        if self.alone:
            return values
        import torch

        told = torch.tensor(values, dtype=torch.float64)
        with self.talking() as dist:
            dist.broadcast(told, 0)
        return tuple(told.tolist())

    def most(self, value: float) -> float:
        """The largest of all processes' numbers."""
        if self.alone:
            return value
        import torch

        told = torch.tensor([value], dtype=torch.float64)
        with self.talking() as dist:
            dist.all_reduce(told, dist.ReduceOp.MAX)
        return float(told)

    def everyone(self, record: Any) -> list[Any]:
        """What each process has to say, as JSON, by rank."""
        if self.alone:
            return [record]
        import torch

        said = json.dumps(record).encode()
        longest = int(self.most(len(said)))
        mine = torch.from_numpy(np.frombuffer(said.ljust(longest), np.uint8).copy())
        texts = [torch.empty_like(mine) for _ in range(self.world)]
        with self.talking() as dist:
            dist.all_gather(texts, mine)
        return [json.loads(text.numpy().tobytes()) for text in texts]

    def wait(self) -> None:
        """For all to come here."""
        self.most(0.0)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """First the first process, then the others: what is wrong for all is said once."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    # Networks.

    def spread(self, model: nn.Module) -> None:
        """All have the first process's network."""
        if self.alone:
            return
        with self.talking() as dist:
            for tensor in model.state_dict().values():
                whole = tensor.contiguous()
                dist.broadcast(whole, 0)
                tensor.copy_(whole)

    def summed(self, model: nn.Module, loss: float, share: float) -> float:
        """The loss of the whole batch, its gradients left in the parameters of all.

        loss: of this process's rows, as a part of the mean over all. share: of the rows; running
        statistics that are being taken become the mean by it.
        """
        if self.alone:
            return loss
        import torch

        parameters = [each for each in model.parameters() if each.requires_grad]
        there = [float(each.grad is not None) for each in parameters]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        statistics = running(model)
        numbers = torch.tensor([loss, *there], device=parameters[0].device)
        parts = [*gradients, *(share * each for each in statistics), numbers]
        flat = torch.cat([part.reshape(-1) for part in parts])
        with self.talking() as dist:
            dist.all_reduce(flat)
        sums = torch.split(flat, [part.numel() for part in parts])
        total, *used = sums[-1].tolist()
        for parameter, gradient, value, some in zip(
            parameters, gradients, sums, used, strict=False
        ):
            gradient.copy_(value.view(gradient.shape))
            parameter.grad = gradient if some else None
        for statistic, value in zip(statistics, sums[len(gradients) :], strict=False):
            statistic.copy_(value.view(statistic.shape))
        return float(total)

    # Failures.

    @contextmanager
    def talking(self) -> Iterator[Any]:
        """torch.distributed. Raises TeamError where another process is not there any more."""
        import torch.distributed

        try:
            yield torch.distributed
        except RuntimeError as error:
            code = self.failure()
            if code is not None:
                raise TeamError("", exit_code=code) from None
            raise TeamError(
                "another process of this training has died",
                "`torchrun --max-restarts 3 …` starts all of them again, where they were",
            ) from error

    def failure(self) -> int | None:
        """The exit code of the process that failed first and could say so."""
        try:
            if not self.store.check(["failed"]):
                return None
            return int(self.store.get("failed"))
        except RuntimeError:  # the process that kept the word is gone as well
            return None

    def must_say(self, what: str, code: int) -> bool:
        """Leaves word of this process's failure; whether the first process does not say the same.

        What is wrong for all is found by all within moments.
        """
        try:
            self.store.compare_set("failed", "", str(code))
            if self.first:
                self.store.set("said", what)
                return True
            until = time.monotonic() + MOMENTS
            while not self.store.check(["said"]):
                if time.monotonic() > until:
                    return True
                time.sleep(0.05)
            return bool(self.store.get("said").decode() != what)
        except RuntimeError:  # the process that keeps the words is gone
            return True


ALONE = Team()


def running(model: nn.Module) -> list[torch.Tensor]:
    """The statistics that norms take from the batches of a training."""
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [part for part in model.modules() if isinstance(part, _BatchNorm) and part.training]
    both = [each for part in norms for each in (part.running_mean, part.running_var)]
    return [each for each in both if each is not None]


@contextmanager
def meeting() -> Iterator[Team]:
    """The team that torchrun has made this process a part of.

    A failure ends all processes with the exit code of the first; it alone says why, the others
    raise a TeamError without words.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        yield ALONE
        return
    team = meet()
    try:
        yield team
    except TeamError as error:
        raise error if team.first else TeamError("", exit_code=error.exit_code) from None
    except Exception as error:
        code = getattr(error, "exit_code", 1)
        if team.must_say(str(error), code) and (team.first or not isinstance(error, Interrupted)):
            raise
        raise TeamError("", exit_code=code) from None
    import torch.distributed

    torch.distributed.destroy_process_group()


def meet() -> Team:
    """Raises UsageError where the environment is not torchrun's, TeamError where one is missing."""
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
    return Team(rank, world, store)
