"""Parts made by one process and by torchrun's are the same files; the page of launchers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kit import ROOT, Here, sha256

from zoo.cli.commands import NAMES

pytest.importorskip("obstore", reason="needs the extra scale")
pytest.importorskip("pyarrow", reason="needs the extra scale")
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def jobs(run: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two jobs of one plan, of which the first is done by this process."""
    from zoo.cli import main

    root = tmp_path_factory.mktemp("jobs")
    for name in ("one", "torchrun"):
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


def test_the_page_of_jobs_names_flags_that_exist(here: Here) -> None:
    lines = re.findall(r"\bzoo (plan|work|verify|merge|predict) ([^`\n\"]*)", PAGE)
    assert {name for name, _ in lines} >= {"plan", "work", "merge"}
    assert {name for name, _ in lines} <= set(NAMES)
    for name, words in lines:
        said = here(name, "--help").out
        for flag in re.findall(r"--[a-z-]+", words):
            assert re.search(rf"{flag}\b", said), (name, flag)


JOB, TASK = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))


def test_the_files_of_the_page_are_well_formed() -> None:
    job, task = JOB, TASK
    assert job["spec"]["completionMode"] == "Indexed"
    command = job["spec"]["template"]["spec"]["containers"][0]["command"][-1]
    assert command.endswith(f"/{job['spec']['completions']}")
    assert task["num_nodes"] == 4
    (script,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_kubernetes_takes_the_file_of_the_page() -> None:
    kubernetes = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    kubernetes.validate(JOB, "1.33", strict=True)
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate({**JOB, "spec": {**JOB["spec"], "completion": 16}}, "1.33", strict=True)


def test_skypilot_takes_the_file_of_the_page() -> None:
    schemas = pytest.importorskip("sky.utils.schemas", reason="needs skypilot")
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    jsonschema.validate(TASK, schemas.get_task_schema())
    jsonschema.validate(TASK["resources"], schemas.get_resources_schema())
