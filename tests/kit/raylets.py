"""A cluster of Ray's on this machine: two nodes, at 127.0.0.2 and 127.0.0.3, with a token."""

from __future__ import annotations

import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from kit import ROOT, jobs
from zoo.scale import launch

HEAD, OTHER = "127.0.0.2", "127.0.0.3"
PATIENCE = 900  # seconds: a head took 5 to 30 here, and minutes beside thirty other processes


# A raylet waits 15 seconds for its agents to say these, and then ends: too short on a busy machine.
_PORTS = ("dashboard_agent_listen_port", "metrics_agent_port", "metrics_export_port",
          "runtime_env_agent_port")  # fmt: skip


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as free:
        return int(free.getsockname()[1])


class Cluster:
    """address: of the head. environment: of who speaks to it, with the token."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.address = f"{HEAD}:{_free_port(HEAD)}"
        path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(24),
               "RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": str(PATIENCE),
               "PYTHONPATH": path, "HOME": str(place)}  # fmt: skip
        self.environment = {**os.environ, **own}
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, host: str) -> None:
        """Start a node, whose processes are a group of their own."""
        words = ["--node-ip-address", host, "--num-cpus", "2", "--object-store-memory", "80000000",
                 "--disable-usage-stats", "--block"]  # fmt: skip
        if host == HEAD:
            port = self.address.rpartition(":")[2]
            words += ["--head", "--port", port, "--include-dashboard", "false",
                      "--temp-dir", str(self.place / "r")]  # fmt: skip
        else:
            words += ["--address", self.address]
        agent, node = _free_port(host), secrets.token_hex(28)
        words += ["--runtime-env-agent-port", str(agent)]
        script = Path(sys.executable).with_name("ray")
        with (self.place / f"{host}.txt").open("wb") as talk:
            self.nodes[host] = subprocess.Popen(
                [script, "start", *words], stdout=talk, stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self.environment | {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": node},
            )  # fmt: skip
        threading.Thread(target=self._say_ports, args=(node, agent), daemon=True).start()

    def _say_ports(self, node: str, agent: int) -> None:
        """Write what a node's agents write: -1 is what they say who have no port."""
        until = time.monotonic() + PATIENCE
        while not (sessions := list(self.place.glob("r/session_2*"))):
            if time.monotonic() > until:
                return
            time.sleep(0.1)
        for name in _PORTS:
            said = str(agent) if name == "runtime_env_agent_port" else "-1"
            (sessions[0] / f"{name}_{node}").write_text(said)

    def wait_for_head(self) -> None:
        until = time.monotonic() + PATIENCE
        while b"Ray runtime started" not in (said := (self.place / f"{HEAD}.txt").read_bytes()):
            assert self.nodes[HEAD].poll() is None, said.decode()
            assert time.monotonic() < until, said.decode()
            time.sleep(0.2)

    def kill(self, host: str) -> None:
        """Kill all processes of a node."""
        os.killpg(self.nodes[host].pid, signal.SIGKILL)
        self.nodes.pop(host).wait(60)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A head; `start` adds the other node."""
    # Its sockets' names must be short.
    with tempfile.TemporaryDirectory(prefix="zoo", dir="/tmp", ignore_cleanup_errors=True) as name:
        ours = Cluster(Path(name))
        ours.start(HEAD)
        try:
            ours.wait_for_head()
            yield ours
        finally:
            for host in list(ours.nodes):
                ours.kill(host)


def driver(ours: Cluster, job: Path) -> subprocess.Popen[str]:
    """Return a driver that does a job of `kit.jobs` on the cluster."""
    words = [sys.executable, "-m", "kit.raylets", ours.address, str(job)]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, env=ours.environment, stdout=pipe, stderr=pipe, text=True)


def killed(
    ours: Cluster, job: Path, kinds: Sequence[str], every: int, seconds: float = 3600
) -> Counter[str]:
    """Do a job while a worker, the driver or the second node is killed; return how often each was.

    kinds: what is killed, one after the other, each after about `every` parts more; AssertionError
    where the job is over before. seconds: after these nothing is killed any more.
    """
    chance, hit, gone = random.Random(3), Counter[str](), set[int]()
    until = time.monotonic() + seconds
    one = driver(ours, job)
    for number, kind in enumerate(kinds):
        if time.monotonic() > until:
            break
        _wait_for(job, every * number + chance.randrange(every), one)
        time.sleep(chance.random() * 0.1)
        if kind == "worker":
            while not (there := sorted({*workers(ours)} - gone)):  # the last one is not back yet
                assert one.poll() is None, "the work was over before"
                time.sleep(0.05)
            gone.add(pid := chance.choice(there))
            os.kill(pid, signal.SIGKILL)
        elif kind == "driver":
            assert one.poll() is None, "the work was over before"
            one.kill()
            one.communicate(timeout=60)
            one = driver(ours, job)
        else:
            ours.kill(OTHER)
            ours.start(OTHER)
        assert one.poll() is None, "the work was over before"
        hit[kind] += 1
    _, said = one.communicate(timeout=4 * PATIENCE)
    assert one.returncode == 0, said
    return hit


def _wait_for(job: Path, many: int, one: subprocess.Popen[str]) -> None:
    """Wait until so many parts are there."""
    until = time.monotonic() + PATIENCE
    while len(list((job / "parts").glob("*.parquet"))) < many:
        assert one.poll() is None, "the work was over before"
        assert time.monotonic() < until, "no part for minutes"
        time.sleep(0.05)


def workers(ours: Cluster) -> list[int]:
    """Return the processes of the workers that are there now."""
    groups = {node.pid for node in ours.nodes.values()}
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            title, parent = (place / "cmdline").read_bytes(), _parent(int(place.name))
            if title.startswith(b"ray::Remote") and os.getpgid(parent) in groups:
                found.append(int(place.name))
    return found


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def main() -> None:
    """Do a job of `kit.jobs` on a cluster; say how many shards each call made."""
    address, job = sys.argv[1:]
    shards = jobs.worker(job).shards.plan.shards
    make = partial(jobs.worker, job)
    done = 0
    for receipt in launch.work(address, make, range(shards), lambda done, total: None):
        done += bool(receipt.rows)
        print(done, flush=True)


if __name__ == "__main__":
    main()
