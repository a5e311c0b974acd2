"""Shards, or the rows of a head, on a cluster of Ray's: it places workers and starts them anew.

What travels is the number of a shard one way and a receipt of it the other. Each worker has two
numbers, so that none waits for the driver. A number that has been away for long, because its
machine is gone or slow, is given to an idle worker too: whoever is quicker makes the part. Ray
tries at least once, the store commits at most once.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from zoo import extras
from zoo.errors import TeamError, UsageError, ZooError
from zoo.metrics import Array
from zoo.scale.team import Share
from zoo.scale.work import Receipt, Worker
from zoo.watch import Progress, check

if TYPE_CHECKING:
    from ray.actor import ActorHandle

FLYING = 2  # shard numbers that a worker has
AWAY, TIMES = 60.0, 3.0  # seconds, and times the longest so far: then a shard is away for long
POLL = 0.5
HERE = ("127.0.0.1", "localhost")


class Remote:
    """A worker on a node, an actor of Ray's. It reads the plan and the photos by itself."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        if os.environ.get("OMP_NUM_THREADS") == "1":  # Ray's, for who asks for no core
            del os.environ["OMP_NUM_THREADS"]
        self.worker = make()

    def shard(self, number: int) -> tuple[int, int, int, bool]:
        """Do a shard; return its receipt."""
        done = self.worker.shard(number)
        return done.shard, done.rows, done.errors, done.quicker


def work(
    address: str,
    make: Callable[[], Worker],
    shards: Sequence[int],
    progress: Progress,
    device: str = "auto",
) -> Iterator[Receipt]:
    """Yield a receipt of each shard, in whatever order. Raises what a worker raises.

    make: is called on each node. progress: of the shards. device: cpu takes no GPUs. Raises
    UsageError, TeamError where there is no such cluster.
    """
    with cluster(address):
        started = [actor.remote(make) for actor in placed(Remote, device)]
        if not started:
            raise TeamError(f"no node of {address} has a core to give", "`ray status` shows them")
        for done, receipt in enumerate(_received(started, shards)):
            progress(done + 1, len(shards))
            yield receipt


def _received(workers: list[ActorHandle], shards: Sequence[int]) -> Iterator[Receipt]:
    import ray
    from ray.exceptions import RayError

    left, missing = deque(shards), set(shards)
    flying: dict[Any, tuple[ActorHandle, int, float]] = {}  # by Ray's promise of a receipt
    longest = 0.0

    def following(worker: ActorHandle) -> int | None:
        """Return the next shard for a worker: where none is left, one that is away for long."""
        mine = [number for one, number, _ in flying.values() if one is worker]
        if left:
            return left.popleft() if len(mine) < FLYING else None
        latest = {number: sent for _, number, sent in flying.values() if number in missing}
        number = min(latest, key=lambda each: latest[each], default=None)
        late = time.monotonic() - max(AWAY, TIMES * longest)
        return number if number is not None and not mine and latest[number] < late else None

    while missing:
        check()
        for worker in workers * FLYING:
            if (number := following(worker)) is not None:
                flying[worker.shard.remote(number)] = worker, number, time.monotonic()
        for promise in ray.wait(list(flying), timeout=POLL)[0]:
            _, number, sent = flying.pop(promise)
            try:
                receipt = Receipt(*ray.get(promise))
            except RayError as error:
                raise told(error) from None
            longest = max(longest, time.monotonic() - sent)
            if number in missing:
                missing.remove(number)
                yield receipt


# A head.


class Kept:
    """A share of the rows of a job on a node, an actor of Ray's."""

    def __init__(self, make: Callable[[], AbstractContextManager[Share]]) -> None:
        self._held = ExitStack()
        self._share = self._held.enter_context(make())

    def answer(self, what: str, given: Sequence[Array]) -> Array:
        """Return what is asked of the pieces that are its own."""
        return self._share.answer(what, given)

    def close(self) -> None:
        """Remove the copy of the rows."""
        self._held.close()


class Asked:
    """The actors that have a share of the rows each; see `zoo.head.stored.Team`."""

    def __init__(self, actors: list[ActorHandle]) -> None:
        self.actors, self.world = actors, 1 + len(actors)

    def ask(self, what: str, *given: Array) -> Iterator[Array]:
        """Have the others begin; yield what they give for each of their pieces, in order."""
        return self._received([actor.answer.remote(what, given) for actor in self.actors])

    def _received(self, promises: list[Any]) -> Iterator[Array]:
        import ray
        from ray.exceptions import RayError

        for promise in promises:
            while not ray.wait([promise], timeout=POLL)[0]:
                check()
            try:
                yield from ray.get(promise)
            except RayError as error:
                raise told(error) from None


@contextmanager
def together(
    address: str, make: Callable[[int, int], AbstractContextManager[Share]]
) -> Iterator[Asked]:
    """Yield the workers of a cluster that solve a head with this process.

    make: gives the share of a number of so many. Raises UsageError, TeamError.
    """
    with cluster(address):
        kinds = list(placed(Kept, "cpu"))
        world = 1 + len(kinds)
        actors = [kind.remote(partial(make, n, world)) for n, kind in enumerate(kinds, 1)]
        try:
            yield Asked(actors)
        finally:
            import ray

            ray.wait([actor.close.remote() for actor in actors], num_returns=len(actors), timeout=9)


# A cluster.


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """Be a driver of the cluster at HOST:PORT in this block. Raises UsageError, TeamError."""
    local = _is_loopback(address)
    if not local and os.environ.get("RAY_AUTH_MODE") != "token":
        raise UsageError(
            f"--ray {address}: whoever reaches a cluster without token authentication runs what "
            "they like on it",
            "start the cluster with RAY_AUTH_MODE=token in the environment of each node, and set "
            "it here too; RAY_AUTH_TOKEN_PATH names the file of the token",
        )
    extras.need("--ray", "ray", extra="ray", instead="the nodes need it too")
    import ray
    from ray.exceptions import RayError

    # Of a loopback address Ray knows 127.0.0.1 alone, which it takes for that of the machine.
    host = address.rpartition(":")[0]
    own = {"_node_ip_address": host} if local and host not in HERE else {}
    ours = signal.getsignal(signal.SIGTERM)  # Ray puts another one in its place
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        hint = "`ray status` on a node of the cluster says whether it is up"
        raise TeamError(f"no cluster of Ray's answers at {address}: {said}", hint) from None
    finally:
        signal.signal(signal.SIGTERM, ours)
    try:
        yield
    finally:
        ray.shutdown()


def _is_loopback(address: str) -> bool:
    """Return whether HOST:PORT is of this machine alone. Raises UsageError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise UsageError(
            f"--ray {address}: it is HOST:PORT, the address of the cluster's head",
            "`ray start --head` prints it, as 10.0.0.5:6379",
        )
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in HERE


def placed(kind: type, device: str) -> Iterator[Any]:
    """Yield an actor class for each GPU of a node, or for each node without one.

    An actor without a GPU keeps no core, so that there is always room to start it anew.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    for node in ray.nodes():
        there = node["Resources"] if node["Alive"] else {}
        gpus = 0 if device == "cpu" else int(there.get("GPU", 0))
        for _ in range(gpus or int(there.get("CPU", 0) > 0)):
            yield ray.remote(kind).options(
                max_restarts=-1,
                max_task_retries=-1,
                num_gpus=1 if gpus else 0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=True),
            )


def told(error: Exception) -> ZooError:
    """Return what a worker has raised, or what has become of it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ZooError):
        return cause
    return TeamError(f"a worker has failed: {' '.join(str(error).split())[-300:]}", "see its log")
