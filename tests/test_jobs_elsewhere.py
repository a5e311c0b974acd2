"""Parts made by one process, by torchrun's and by Ray's are the same files."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kit import ROOT, Here, sha256

from zoo.cli import app

pytest.importorskip("obstore", reason="needs the extra scale")
pytest.importorskip("pyarrow", reason="needs the extra scale")
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
HEAD = "127.0.0.2:6399"  # Ray takes 127.0.0.1 for the machine's outer address, and waits for ever


@pytest.fixture(scope="module")
def jobs(run: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three jobs of one plan, of which the first is done by this process."""
    from zoo.cli import main

    root = tmp_path_factory.mktemp("jobs")
    for name in ("one", "torchrun", "ray"):
        words = ["-o", str(root / name), "--model", str(run), "--per-shard", "5"]
        assert main(["plan", str(photos), *words]) == 0
    assert main(["work", str(root / "one")]) == 0
    return root


def parts(job: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted((job / "parts").iterdir())}


@pytest.mark.slow
def test_torchrun_makes_the_same_parts(here: Here, jobs: Path) -> None:
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "zoo", "work"]
    done = subprocess.run(
        [sys.executable, *words, str(jobs / "torchrun")],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert here("verify", jobs / "torchrun").code == 0
    assert parts(jobs / "torchrun") == parts(jobs / "one")
    assert "4 shards done, 20 rows" in done.stderr  # each took its half of eight


@pytest.fixture
def raylets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two nodes of a cluster on this machine."""
    pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ray = str(Path(sys.executable).with_name("ray"))
    head, port = HEAD.split(":")
    first = ["--head", f"--node-ip-address={head}", f"--port={port}", "--include-dashboard=false"]
    begun = []
    for number, words in enumerate((first, [f"--address={HEAD}", "--node-ip-address=127.0.0.3"])):
        said = tmp_path / f"ray{number}.log"
        common = ["start", "--block", "--num-cpus=1", "--object-store-memory=80000000"]
        with said.open("wb") as file:
            begun.append(subprocess.Popen([ray, *common, *words], stdout=file, stderr=file))
        until = time.monotonic() + 100
        while b"Ray runtime started" not in said.read_bytes():
            assert begun[-1].poll() is None, said.read_text()
            assert time.monotonic() < until, said.read_text()
            time.sleep(0.5)
    yield begun
    for one in reversed(begun):
        one.terminate()
        try:
            one.wait(20)
        except subprocess.TimeoutExpired:
            one.kill()


@pytest.mark.ray
def test_ray_makes_the_same_parts_though_a_node_dies(
    here: Here, jobs: Path, raylets: list[subprocess.Popen[bytes]]
) -> None:
    words = [sys.executable, "-m", "zoo", "work", str(jobs / "ray"), "--ray", HEAD]
    work = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (jobs / "ray" / "parts").exists() and work.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.1)
    raylets[1].send_signal(signal.SIGKILL)
    _, said = work.communicate(timeout=300)
    assert work.returncode == 0, said
    assert here("verify", jobs / "ray").code == 0
    assert parts(jobs / "ray") == parts(jobs / "one")


@pytest.mark.parametrize("address", ["10.0.0.5:6379", "head.example.com:6379"])
def test_a_cluster_that_lets_anybody_in_is_refused(
    here: Here, jobs: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    answer = here("work", jobs / "one", "--ray", address)
    assert answer.code == 2
    assert "RAY_AUTH_MODE=token" in answer.err


def test_the_page_of_jobs_names_flags_that_exist(here: Here) -> None:
    lines = re.findall(r"\bzoo (plan|work|verify|merge|predict) ([^`\n\"]*)", PAGE)
    assert {name for name, _ in lines} >= {"plan", "work", "merge"}
    assert {one.name for one in app.registered_commands} >= {name for name, _ in lines}
    for name, words in lines:
        said = here(name, "--help").out
        for flag in re.findall(r"--[a-z-]+", words):
            assert re.search(rf"{flag}\b", said), (name, flag)


def test_the_files_of_the_page_are_well_formed() -> None:
    """Kubernetes' own schema is asked where it is installed."""
    job, task = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    assert job["spec"]["completionMode"] == "Indexed"
    command = job["spec"]["template"]["spec"]["containers"][0]["command"][-1]
    assert command.endswith(f"/{job['spec']['completions']}")
    assert task["num_nodes"] == 4
    (script,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    try:
        import kubernetes_validate
    except ModuleNotFoundError:
        return
    kubernetes_validate.validate(job, "1.33", strict=True)
