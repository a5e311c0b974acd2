"""One torch file to safetensors, in a process of its own that convert.py starts.

stdin is the file, open and hashed; stdout an empty file; stderr one line, why it was refused. The
process opens no other file of a user and needs no network: where the kernel lets it (Linux, as
root or with user namespaces) it has none, elsewhere this is silently left out. Limits: memory
(over what is mapped once torch is imported, which differs by gigabytes between its builds; only
where /proc tells), processor time, bytes written. It dies with its parent.

What reads is `torch.load(weights_only=True)`, which runs no code. Settings that trainers save
beside the weights are passed over: see stand_ins.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import pickletools
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator
from io import BufferedReader
from typing import TYPE_CHECKING, Any

from zoo.machine import out_of_memory
from zoo.weights.header import TENSORS
from zoo.weights.stand_ins import INERT, Array, Nothing
from zoo.weights.tensors import shown, types, write

if TYPE_CHECKING:
    import torch

WRITTEN, REFUSED, LIMIT, NOT_WRITTEN = 0, 2, 3, 4
DEEPEST = 8  # dicts in dicts
LEGACY_PICKLES = 4  # torch.save before 1.6: a magic number, a protocol, a machine, the object
OF_ARRAYS = "torch.save({n: torch.from_numpy(a) for n, a in state.items()}, FILE) makes tensors"


class Refused(Exception):
    """Why a file is not weights, in a few words that follow its name; behind a bar what to do."""


def main(arguments: list[str]) -> int:
    """Convert stdin to stdout. arguments: limits, as bytes of memory, seconds, bytes written."""
    memory, seconds, written = map(int, arguments)
    target = os.dup(1)
    os.dup2(2, 1)  # a stray print is not part of the file
    _cut_off()
    _limit(seconds, written)
    source = open(0, "rb", closefd=False)  # noqa: SIM115
    size = os.fstat(0).st_size
    try:
        source.seek(0)
        import torch  # noqa: F401  before the limit: it maps gigabytes that it never uses

        _limit_memory(memory)
        tensors = state_dict(source, size)
        with open(target, "wb") as file:
            write(file, tensors)
    except Refused as error:
        os.write(2, f"\n{error}\n".encode())
        return REFUSED
    except MemoryError:
        return LIMIT
    except OSError as error:
        os.write(2, f"\n{error.strerror}\n".encode())
        return LIMIT if error.errno == errno.EFBIG else NOT_WRITTEN
    except RuntimeError as error:
        if out_of_memory(error):
            return LIMIT
        raise
    return WRITTEN


def state_dict(file: BufferedReader, size: int) -> dict[str, torch.Tensor]:
    """Return the tensors of a torch file, and nothing else. Raises Refused and MemoryError.

    Those of dicts in dicts are called by the keys on the way, with dots between.
    """
    import torch

    stand_ins: list[Any] = [(stand_in, name) for name, stand_in in INERT.items()]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # about old formats and TorchScript: refused anyway
            # Said, because TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD turns the default off.
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile file chooses which one
        if out_of_memory(error):
            raise MemoryError from error
        raise Refused(_why_not_loaded(str(error), file)) from None
    return _plain_tensors(found, size)


def _why_not_loaded(said: str, file: BufferedReader) -> str:
    named = re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", said)
    if named is not None:
        key = _key_of(named[1], file)
        where = f" (it stands under {shown(key)!r})" if key else ""
        return f"asks for {shown(named[1])}, which is code: refused, nothing was run{where}"
    if "TorchScript" in said:
        return "is a TorchScript program, not weights"
    if "data.pkl" in said:
        return "is a zip archive, not weights"
    return "cannot be read: it is damaged, cut short, or holds more than tensors"


def _key_of(name: str, file: BufferedReader) -> str:
    """Return the last text before a name that a file asks for: of what torch.save writes, its key.

    Reads the pickle's instructions and runs none.
    """
    text, before = "", ""
    texts: dict[object, str] = {}  # those that come again, by their number
    with contextlib.suppress(Exception):  # it is refused already
        for code, argument, _ in _instructions(file):
            if code.name == "GLOBAL" and str(argument).split()[-1] == name.rpartition(".")[2]:
                return text
            if code.name == "BINUNICODE":
                text = str(argument)
            elif code.name in ("BINPUT", "LONG_BINPUT") and before == "BINUNICODE":
                texts[argument] = text
            elif code.name in ("BINGET", "LONG_BINGET"):
                text = texts.get(argument, text)
            before = code.name
    return ""


def _instructions(
    file: BufferedReader,
) -> Iterator[tuple[pickletools.OpcodeInfo, object, int | None]]:
    file.seek(0)
    if zipfile.is_zipfile(file):
        archive = zipfile.ZipFile(file)
        (main,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        return pickletools.genops(archive.open(main))
    file.seek(0)
    pickles = (pickletools.genops(file) for _ in range(LEGACY_PICKLES))
    return itertools.chain.from_iterable(pickles)


def _plain_tensors(found: object, size: int) -> dict[str, torch.Tensor]:
    """Refuse all but ordinary tensors whose bytes really are in the file."""
    import torch

    if not isinstance(found, dict):
        kind = "an object" if isinstance(found, Nothing) else f"a {type(found).__name__}"
        raise Refused(f"holds no state dict but {kind}")
    allowed, total, tensors, arrays = {*types().values()}, 0, dict[str, torch.Tensor](), 0
    for name, value in _named(found, set()):
        if isinstance(value, Array):
            arrays += 1
            continue
        if name in tensors or len(tensors) == TENSORS:
            raise Refused(f"holds {shown(name)} twice, or more than {TENSORS} tensors")
        strided = value.layout is torch.strided and value.device.type == "cpu"
        if not strided or value.dtype not in allowed:
            raise Refused(f"holds an unusual tensor: {shown(name)}")
        # An expanded tensor is a few bytes in the file and any number in memory.
        if value.nbytes > value.untyped_storage().nbytes():
            raise Refused(f"claims more bytes than it has: {shown(name)}")
        total += value.nbytes
        tensors[name] = value.detach()
    if not tensors and arrays:
        raise Refused(f"holds {arrays} arrays of NumPy's and no tensor|{OF_ARRAYS}")
    if not tensors:
        raise Refused("holds no state dict: there is no tensor with a name in it")
    if total > 4 * size:
        raise Refused(f"claims {total} bytes of tensors in a file of {size}")
    return tensors


def _named(
    inside: dict[object, object], seen: set[int], way: tuple[str, ...] = ()
) -> Iterator[tuple[str, torch.Tensor | Array]]:
    """Yield what a dict and the dicts in it hold of tensors and arrays, and pass over the rest.

    Methods of dict itself: a file may give an OrderedDict attributes of any name.
    """
    import torch

    seen.add(id(inside))
    for key, value in dict.items(inside):
        if not isinstance(key, str):  # the numbers of an optimizer's state
            continue
        if isinstance(value, torch.Tensor | Array):
            yield ".".join((*way, key)), value
        elif isinstance(value, dict) and id(value) not in seen and len(way) < DEEPEST:
            yield from _named(value, seen, (*way, key))


# Alone, and within limits


def _cut_off() -> None:
    """Give up the network, further rights and life after the parent, where the kernel allows."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        network, user = 0x40000000, 0x10000000  # CLONE_NEWNET, CLONE_NEWUSER
        if libc.unshare(network) != 0:
            libc.unshare(user | network)


def _limit(seconds: int, written: int) -> None:
    with contextlib.suppress(ImportError):
        import resource

        limits = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_FSIZE: written}
        for what, limit in {**limits, resource.RLIMIT_CORE: 0}.items():
            with contextlib.suppress(OSError, ValueError):  # it is lower already
                resource.setrlimit(what, (limit, limit))


def _limit_memory(more: int) -> None:
    """Allow so many bytes of address space more than is mapped now, once and for all."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm") as file:
            limit = int(file.read().split()[0]) * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
