"""A torch file becomes safetensors once; this process never unpickles anything.

The reading is done by convert_worker.py in a fresh interpreter (`-I`: no PYTHON variables, no
folder of the caller; no fork of our threads), which gets the very file that was hashed as stdin
and an empty one as stdout. What it writes is trusted no more than any safetensors file from the
network. Kept as `converted/SHA256-CODE.safetensors` in the cache under the sha256 of the source
and a hash of what converted it; where the cache cannot be written the result stays in memory, and
the next process converts again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from io import BufferedRandom, BufferedReader
from pathlib import Path

from zoo import __version__
from zoo.disk import cache_folder, make_private, replacing, warn, writing
from zoo.errors import CacheError, ReaderDied, WeightsError, WriteError
from zoo.watch import check, undoing, unheard
from zoo.weights.hashes import Reader, pin, pin_of
from zoo.weights.header import HEADER_BYTES, BadHeader, entries
from zoo.weights.tensors import shown

HINT = (
    "give a .safetensors file, or a .pth file with the state dict alone, as "
    "torch.save(model.state_dict(), FILE) writes it"
)
REFUSED, NOT_WRITTEN, LIMIT = 2, 4, 3  # exit codes of convert_worker.py
NOT_STARTED = -1000
# Limits of the child. Memory is over what it maps once torch is imported; the tensors of a file
# exist at most three times there: as read, as one run of bytes each, and on their way out.
MEMORY, TIMES = 1 << 30, 4
SECONDS = 60  # of processor time, a second or two of which go to the import of torch
WALL, WALL_BYTES = 120.0, 5e6  # seconds on the clock, and bytes a second for a slow disk
SAID = 1 << 16  # bytes of what it says that are read
# The environment of the child: no tokens, no switch that turns checks off. One thread, because
# each costs address space.
KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "HOME", "LANG")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PROGRAM = (
    "import sys; n = int(sys.argv[1]) + 2; sys.path[:0] = sys.argv[2:n]; "
    "from zoo.weights.convert_worker import main; sys.exit(main(sys.argv[n:]))"
)
MAKERS = ("convert_worker.py", "stand_ins.py", "tensors.py", "header.py")


def converted_path(digest: str) -> Path:
    return cache_folder() / "converted" / f"{digest}-{_code()}.safetensors"


@functools.cache
def _code() -> str:
    """Return a hash of what converts: another one may find other tensors in the same file."""
    digest = hashlib.sha256(f"{__version__} {torch_version()}".encode())
    for name in MAKERS:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:12]


def converted(file: BufferedReader, path: Path, digest: str) -> Reader:
    """Return the tensors of an open torch file with this sha256, as an open safetensors file.

    Raises WeightsError for what is not weights, ReaderDied where the child came to a limit.
    """
    kept = converted_path(digest)
    known = _open_kept(kept)
    if known is not None:
        return known
    _needs_torch(path)
    try:
        return _into_cache(file, path, kept)
    except WriteError as error:
        if not hasattr(os, "memfd_create"):
            raise CacheError(error.what, error.hint) from error
    result = open(os.memfd_create("weights"), "r+b")  # noqa: SIM115
    _by_child(file, result, path)
    return result


def _open_kept(kept: Path) -> BufferedReader | None:
    """Open what an earlier process has converted, if it is whole and nobody else could write it."""
    try:
        if os.name == "posix" and os.stat(kept.parent).st_mode & stat.S_IWOTH:
            return None
        handle = os.open(kept, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        file = open(handle, "rb")  # noqa: SIM115
    except OSError:
        return None
    with contextlib.suppress(WeightsError):
        if hashlib.file_digest(file, "sha256").hexdigest() == pin_of(kept):
            file.seek(0)
            return file
        warn(f"{kept} is damaged: it is made anew")
    file.close()
    return None


def _into_cache(file: BufferedReader, path: Path, kept: Path) -> Reader:
    make_private(kept.parent)
    with replacing(kept, 0o600) as temporary:
        with writing(kept):
            result = temporary.open("r+b")
        _by_child(file, result, path)
        digest = hashlib.file_digest(result, "sha256").hexdigest()
        result.seek(0)
    with contextlib.suppress(WriteError):  # without a pin the next process converts again
        pin(kept, digest)
    source = kept.name.partition("-")[0]
    for other in kept.parent.glob(f"{source}*"):  # of an older zoo or torch
        if not other.name.startswith(kept.name):
            with contextlib.suppress(OSError):
                other.unlink()
    return result


def _needs_torch(path: Path) -> None:
    found = torch_version()
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < (2, 10):
        # CVE-2026-24747: memory corruption in weights_only itself
        raise WeightsError(
            f"{path}: .pth files need torch 2.10, this is {found}",
            "upgrade torch, or give a .safetensors file",
        )


@functools.cache
def torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        import torch

        return str(torch.__version__)


# The child


def _by_child(file: BufferedReader, result: BufferedRandom, path: Path) -> None:
    """Let a child write the tensors of `file` into `result`, which is closed where it fails."""
    size = os.fstat(file.fileno()).st_size
    limits = [TIMES * size + MEMORY, SECONDS, TIMES * size + HEADER_BYTES]
    try:
        code, said = _run(file, result, limits, WALL + size / WALL_BYTES)
        if code != 0:
            raise _failure(code, said, path)
        result.seek(0)  # the child has moved it
        entries(result)
        result.seek(0)
    except BaseException as error:
        result.close()
        if isinstance(error, BadHeader):
            raise ReaderDied(f"{path} was given up: what was read of it is not whole") from error
        raise


def _failure(code: int, said: str, path: Path) -> WeightsError | WriteError:
    if code == REFUSED:
        what, _, hint = said.partition("|")
        return WeightsError(f"{path} {what}", hint or HINT)
    if code == NOT_WRITTEN:
        return WriteError(f"cannot write what is in {path} to {cache_folder()}: {said}")
    what = f"{path} was given up: the process that read it {_end(code, said)}"
    return ReaderDied(what, f"nothing was run or kept; {HINT}")


def _run(
    file: BufferedReader, result: BufferedRandom, limits: list[int], wall: float
) -> tuple[int, str]:
    """Return the exit code of the child, and the last line that it said."""
    paths = _paths()
    words = [sys.executable, "-I", "-c", PROGRAM, str(len(paths)), *paths, *map(str, limits)]
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= dict.fromkeys(THREADS, "1")
    try:
        with unheard():
            child = subprocess.Popen(
                words, stdin=file, stdout=result, stderr=subprocess.PIPE, env=environment
            )
    except OSError as error:
        return NOT_STARTED, error.strerror or str(error)
    with child, undoing(child.kill):
        timer = threading.Timer(wall, child.kill)
        timer.start()
        try:
            assert child.stderr is not None
            said = child.stderr.read(SAID)
            if len(said) == SAID:
                child.kill()
            code = child.wait()
        finally:
            timer.cancel()
            child.kill()
    check()
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return code, shown(lines[-1], 300) if lines else ""


def _paths() -> list[str]:
    """Return where the child finds zoo and torch, which `-I` may have taken from its path."""
    found = find_spec("torch")
    origin = found.origin if found else None
    places = [Path(__file__).parents[2], *([Path(origin).parents[1]] if origin else [])]
    return [str(place) for place in dict.fromkeys(places)]


def _end(code: int, said: str) -> str:
    if code == NOT_STARTED:
        return f"could not be started: {said}"
    if code == LIMIT:
        return f"needed more memory than {TIMES} times the file and {MEMORY >> 30} GB"
    if code >= 0:
        return f"ended with code {code}" + (f" ({said})" if said else "")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}, at a limit of {SECONDS} s of processor time or of memory"
