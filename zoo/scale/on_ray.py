"""The shards of a job placed by Ray: actors that do one after the other, and begin anew if killed.

Ray sees numbers of shards and receipts of a few words: no photo or row enters its object store.
What an actor that died had not finished is done by the one that takes its place (`max_restarts`,
`max_task_retries`); a photo that ends them all is found as in any other process (see `work`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, UsageError, ZooError
from zoo.scale import plan, store
from zoo.scale.answers import open_answers
from zoo.scale.work import Receipt, Worker
from zoo.watch import check

if TYPE_CHECKING:
    from ray.actor import ActorHandle

IN_FLIGHT = 2  # shards of an actor: the next one is there when the last one is done
WAIT = 1.0  # seconds, between two looks for a signal


@dataclass(frozen=True, slots=True)
class Cluster:
    """address: HOST:PORT, or local for this machine. actors: None is one for each GPU, or node."""

    address: str
    actors: int | None = None
    device: str = "auto"


class _Actor:
    """A `Worker` in a process of Ray's."""

    def __init__(self, job: str, device: str) -> None:
        place = store.Store(job)
        found = plan.read(place)
        opener = partial(open_answers, found.settings, device)
        self.worker = Worker(plan.Shards(place, found), opener)

    def shard(self, number: int) -> Receipt | tuple[str, str]:
        """Return the receipt of a shard, or what went wrong and a hint."""
        try:
            return self.worker.shard(number)
        except ZooError as error:
            return error.what, error.hint


def work(cluster: Cluster, job: str, shards: int) -> Iterator[Receipt]:
    """Yield a receipt of each shard, as they come in. Raises UsageError, InputError."""
    with _joined(cluster.address):
        import ray

        workers = _actors(cluster, job)
        owners: dict[object, ActorHandle] = {}
        left = iter(range(shards))
        for worker in workers * IN_FLIGHT:
            if (number := next(left, None)) is not None:
                owners[worker.shard.remote(number)] = worker
        while owners:
            check()
            for one in ray.wait(list(owners), timeout=WAIT)[0]:
                worker = owners.pop(one)
                receipt = ray.get(one)
                if not isinstance(receipt, Receipt):
                    raise InputError(*receipt)
                yield receipt
                if (number := next(left, None)) is not None:
                    owners[worker.shard.remote(number)] = worker


def _actors(cluster: Cluster, job: str) -> list[ActorHandle]:
    import ray

    gpus = int(ray.cluster_resources().get("GPU", 0)) if cluster.device != "cpu" else 0
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    count = cluster.actors or gpus or len(nodes)
    kind = ray.remote(
        num_cpus=1,
        num_gpus=1 if gpus else 0,
        max_restarts=-1,
        max_task_retries=-1,
        scheduling_strategy="SPREAD",
    )(_Actor)
    return [kind.remote(job, cluster.device) for _ in range(count)]


@contextmanager
def _joined(address: str) -> Iterator[None]:
    """Raises UsageError where there is no such cluster."""
    how = _checked(address)
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", **how)
    except (ConnectionError, RuntimeError, ValueError) as error:
        what = f"--ray {address}: {store.said(error)}"
        raise UsageError(what, "is it the address that `ray start` has told?") from None
    try:
        yield
    finally:
        ray.shutdown()


def _checked(address: str) -> dict[str, Any]:
    """Return what else Ray is to be told. Raises UsageError for an open door, and without Ray."""
    if find_spec("ray") is None:
        hint = "`pip install 'zoo-transfer[ray]'` installs it; --shard I/N does without"
        raise UsageError("--ray needs Ray, which is not installed", hint)
    if address == "local":
        return {"include_dashboard": False}
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise UsageError(f"--ray {address}: it is HOST:PORT, or local", "as --ray 10.0.0.5:6379")
    with suppress(ValueError):
        if ip_address(host).is_loopback:
            return {"_node_ip_address": host}
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise UsageError(
            f"--ray {address}: whoever reaches that port runs code there, unless it asks for a "
            "token",
            "start the cluster with RAY_AUTH_MODE=token, and set that and the token here: see "
            "docs/scale.md",
        )
    return {}
