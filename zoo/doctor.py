"""What this installation and this machine are like, and what makes zoo slow or keeps it from work.

Each line has a name, what was found, and where something is better done otherwise, what to do.
Nothing is written but a file of a moment in the cache, and the network is not asked.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from zoo import __version__, config, extras
from zoo.disk import cache_folder
from zoo.errors import ZooError
from zoo.text import size

PACKAGES = ("torch", "torchvision", "timm", "openvino", "onnxruntime", "numpy", "scipy", "pillow",
            "safetensors", "pyarrow")  # fmt: skip
OPTIONAL = {
    "torch": "training, runs and export", "timm": "timm's models",
    "torchvision": "torchvision's models", "openvino": "the quickest engine on most CPUs",
    "pyarrow": "Parquet",
}  # fmt: skip
ROOM, FILES, CORES = 5e9, 1024, 2  # bytes of disk, open files, processors below which it is said
NETWORK_DISKS = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "lustre", "ceph", "fuse.s3fs",
                 "glusterfs", "beegfs")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """What was found of one thing. state: ok, slow (works, but not as quickly) or wrong."""

    group: str
    name: str
    found: str
    state: str = "ok"
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def examine() -> list[Line]:
    """Return all lines; a part that fails is a line too."""
    parts: tuple[Callable[[], Iterator[Line]], ...] = (
        _versions, _devices, _processor, _engines, _folders, _settings, _limits,
    )  # fmt: skip
    found: list[Line] = []
    for part in parts:
        try:
            found += part()
        except (ZooError, OSError) as error:
            what = getattr(error, "what", str(error))
            found.append(Line(part.__name__[1:], "?", what, "wrong", getattr(error, "advice", "")))
    return found


def _versions() -> Iterator[Line]:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield Line("versions", "zoo", __version__)
    yield Line("versions", "python", python)
    yield Line("versions", "system", system)
    for name in PACKAGES:
        if found := _version_of(name):
            yield Line("versions", name, found)
        elif extra := extras.extra_of(name):
            advice = f"for {OPTIONAL[name]}: {extras.install(extra)}"
            yield Line("versions", name, "not installed", "ok", advice)
        else:
            yield Line("versions", name, "not installed", "wrong", f"{extras.pip()} {name}")


def _devices() -> Iterator[Line]:
    """Yield where networks can run; torch is imported only where there may be a GPU."""
    from zoo.device import may_have_gpu

    card = any(Path("/dev").glob("nvidia[0-9]*")) or shutil.which("nvidia-smi") is not None
    if card and not _built_for_cuda():
        yield Line("devices", "cuda", "an NVIDIA card is here, and torch is the CPU build", "slow",
                   "install torch's CUDA build: https://pytorch.org/get-started")  # fmt: skip
        return
    if not may_have_gpu():
        yield Line("devices", "gpu", "none found: networks run on the CPU")
        return
    import torch

    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(number)
        yield Line("devices", f"cuda:{number}", f"{about.name}, {size(about.total_memory)}")
    if torch.backends.mps.is_available():
        yield Line("devices", "mps", "an Apple GPU")
    if card and not torch.cuda.is_available():
        yield Line("devices", "cuda", "an NVIDIA card is here, and torch cannot use it", "slow",
                   "is the driver new enough? `nvidia-smi` says which CUDA it has")  # fmt: skip


def _processor() -> Iterator[Line]:
    from zoo.engine import select
    from zoo.machine import cores

    known = select.flags()
    has = [name for name in ("avx2", "avx512f", *select.BF16, "asimd") if name in known]
    yield Line("processor", "instructions", ", ".join(has) or platform.machine())
    if known and not has:
        yield Line("processor", "vectors", "no AVX2", "slow", "openvino needs it; torch runs")
    if known and known.isdisjoint(select.BF16):
        yield Line("processor", "bf16", "neither AMX nor AVX512-BF16: it would be emulated", "ok",
                   "leave --precision bf16 out; --precision int8 is quicker than fp32")  # fmt: skip
    ours, all_of_it = cores(), os.cpu_count() or 1
    advice, state = "", "ok"
    if ours < all_of_it:
        advice = "taskset or a container leaves this process fewer"
    elif ours < CORES:
        state, advice = "slow", "decoding photos and the network share it"
    yield Line("processor", "cores", f"{ours} of {all_of_it}", state, advice)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and int(threads) < ours:
        yield Line("processor", "threads", f"OMP_NUM_THREADS={threads}, of {ours} cores", "slow",
                   "unset it, unless other work shares this machine")  # fmt: skip


def _engines() -> Iterator[Line]:
    from zoo.engine.select import why_not

    why = why_not("cpu")
    trains = bool(_version_of("torch"))
    state = "slow" if why and trains and not _version_of("openvino") else "ok"
    advice = f"{extras.pip()} openvino: often twice as quick on a CPU" if state == "slow" else ""
    yield Line("engines", "openvino", why or "runs networks on this CPU", state, advice)
    if trains:
        yield Line("engines", "torch", "runs every network")
    if _version_of("onnxruntime"):
        yield Line("engines", "onnxruntime", "runs exported files")


def _folders() -> Iterator[Line]:
    folder = cache_folder()
    there = next(one for one in (folder, *folder.parents) if os.path.exists(one))
    who = f" ({said})" if (said := config.origin("cache")) else ""
    free = shutil.disk_usage(there).free
    advice = f"make room, or `zoo config set cache FOLDER`; {_PRUNE}" if free < ROOM else ""
    yield Line(
        "folders", "cache", f"{folder}{who}, {size(free)} free", "slow" if advice else "ok", advice
    )
    if not os.access(there, os.W_OK | os.X_OK):
        yield Line("folders", "permissions", f"{there} cannot be written", "wrong",
                   "`zoo config set cache FOLDER`, one that is yours")  # fmt: skip
    elif os.path.exists(folder) and hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        yield Line("folders", "permissions", f"{folder} is another user's", "slow",
                   "`zoo config set cache FOLDER`, one that is yours")  # fmt: skip
    if (kind := _disk_of(there)) in NETWORK_DISKS:
        yield Line("folders", "disk", f"the cache is on a network file system ({kind})", "slow",
                   "`zoo config set cache FOLDER`, on a disk of this machine")  # fmt: skip
    weights = config.value("weights")
    if weights and "://" not in weights and not Path(weights).expanduser().is_dir():
        yield Line("folders", "weights", f"{weights} ({config.origin('weights')}): no such folder",
                   "wrong", "make it, or `zoo config set weights FOLDER`")  # fmt: skip
    elif weights:
        yield Line("folders", "weights", f"{weights}, then the cache")
    if any(map(_without_bytecode, (Path(__file__).parent, _folder_of("torch")))):
        yield Line("folders", "bytecode", "Python cannot keep what it has compiled", "slow",
                   "unset PYTHONDONTWRITEBYTECODE, or `python -m compileall` the packages: each "
                   "command compiles them anew")  # fmt: skip


_PRUNE = "`zoo cache --prune --older 30d`"


def _settings() -> Iterator[Line]:
    if value := config.value("device"):
        yield Line("settings", "device", f"{value} ({config.origin('device')})")
    for name in sorted(os.environ):
        if name.startswith("ZOO_") and name not in [row[0] for row in config.KEYS.values()]:
            yield Line("settings", name, os.environ[name][:80])
    if os.environ.get("ZOO_OFFLINE", "0") not in ("", "0"):
        yield Line("settings", "network", "not used, by ZOO_OFFLINE", "ok", "`zoo pull` needs it")


def _limits() -> Iterator[Line]:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < FILES:
        yield Line("limits", "open files", f"{files:,}", "slow", f"ulimit -n {FILES}")
    memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    if memory != resource.RLIM_INFINITY:
        yield Line("limits", "address space", size(memory), "slow",
                   "ulimit -v unlimited: torch reserves more than it uses")  # fmt: skip
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most = _in_container()
    yield Line("limits", "memory", size(min(total, most)) + (" in this container" * (most < total)))


def _in_container() -> float:
    """Return the bytes of memory that a container may use, or infinity."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return float(Path(path).read_text().strip())
        except (OSError, ValueError):  # "max"
            continue
    return float("inf")


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _built_for_cuda() -> bool:
    """Return whether torch is a build for CUDA, by the file that says so: importing it is slow."""
    import re

    folder = _folder_of("torch")
    try:
        text = (folder / "version.py").read_text("utf-8") if folder else ""
    except OSError:
        return True
    return not re.search(r"^cuda\b[^=]*= None", text, re.MULTILINE)


def _folder_of(package: str) -> Path | None:
    """Return the folder of a package without importing it."""
    from importlib.util import find_spec

    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _without_bytecode(folder: Path | None) -> bool:
    """Return whether the modules of a folder are compiled anew in each process."""
    if folder is None or (folder / "__pycache__").is_dir():
        return False
    return sys.dont_write_bytecode or not os.access(folder, os.W_OK)


def _disk_of(path: Path) -> str:
    """Return the kind of file system that a path is on, as Linux says it; nothing elsewhere."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return ""
    real, best = os.path.realpath(path), ("", "")
    for _, point, kind, *_ in mounts:
        point = point.replace("\\040", " ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        best = max(best, (point, kind), key=lambda one: len(one[0])) if inside else best
    return best[1]
