"""ONNX Runtime Web, for the page of `zoo export web`: from the user's npm, a folder, or the cache.

Two files of the npm package are all that a browser needs. Both are known by their sha256, the
package by its sha512: what comes is exactly what was tried here, or nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zoo.disk import cache_folder, make_private, opened, replacing, scratch, writing
from zoo.errors import CacheError, InputError, UsageError, WriteError, first_line
from zoo.weights.store import is_offline

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
# By what they are called on a page: no server has to know .mjs then.
FILES = {
    "onnxruntime.js": (
        "ort.wasm.bundle.min.mjs",
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    ),
    "onnxruntime.wasm": (
        "ort-wasm-simd-threaded.wasm",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
}
MOST = 64_000_000  # bytes of a file, and of the package
PATIENCE = 300  # seconds for npm
HINT = (
    f"`npm pack {PACKAGE}@{VERSION}` fetches it elsewhere: then --runtime NAME.tgz, or the folder "
    "dist of it"
)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The files by what they are called on a page, and in words where they are from."""

    files: dict[str, bytes]
    source: str


def find(given: Path | None, say: Callable[[str], None]) -> Runtime:
    """Return the runtime. given: a package of npm, or a folder that has its files.

    Else it is the one of the cache, and what npm fetches. Raises UsageError, InputError,
    CacheError.
    """
    if given is not None:
        return _given(given)
    kept = cache_folder() / "web" / f"{PACKAGE}-{VERSION}"
    try:
        files = _read(kept)
    except OSError:
        files = {}
    if not _wrong(files):
        return Runtime(files, f"{PACKAGE} {VERSION}, of the cache")
    if is_offline():
        raise UsageError(f"{PACKAGE} {VERSION} is not here, and ZOO_OFFLINE is set", HINT)
    say(f"npm fetches {PACKAGE} {VERSION}, 33 MB, once")
    files = _by_npm()
    try:
        make_private(kept)
        for name, data in files.items():
            with replacing(kept / FILES[name][0]) as path, writing(path):
                path.write_bytes(data)
    except WriteError as error:
        raise CacheError(error.what, f"{error.hint}: ZOO_CACHE=FOLDER names one") from error
    return Runtime(files, f"{PACKAGE} {VERSION}, fetched by npm")


def _given(place: Path) -> Runtime:
    """Return the runtime of a package or a folder, which may be of another version."""
    try:
        files = _read(place) if place.is_dir() else _of_package(place)
    except (OSError, tarfile.TarError, EOFError) as error:
        names = " and ".join(name for name, _ in FILES.values())
        raise InputError(
            f"--runtime {place} cannot be read: {first_line(error)}",
            f"give the folder dist of the npm package {PACKAGE}, which has {names}, or its .tgz",
        ) from None
    other = "another version than the one that was tried" if _wrong(files) else VERSION
    return Runtime(files, f"{PACKAGE}, {other}, of {place}")


def _read(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, or of its folder `dist`. Raises OSError."""
    if (folder / "dist").is_dir():
        folder = folder / "dist"
    found = {}
    for name, (theirs, _) in FILES.items():
        with opened(folder / theirs, MOST) as file:
            found[name] = file.read()
    return found


def _of_package(path: Path) -> dict[str, bytes]:
    """Return the files of a package of npm. Raises OSError, TarError, EOFError."""
    with opened(path, MOST) as file, tarfile.open(fileobj=file) as package:
        found = {}
        for name, (theirs, _) in FILES.items():
            try:
                member = package.getmember(f"package/dist/{theirs}")
            except KeyError:
                raise tarfile.TarError(f"it has no file {theirs}") from None
            inside = package.extractfile(member) if member.size <= MOST else None
            if inside is None:
                raise tarfile.TarError(f"its {theirs} is no file of at most {MOST:,} bytes")
            found[name] = inside.read()
    return found


def _wrong(files: dict[str, bytes]) -> list[str]:
    """Return which files are not those of VERSION."""
    wanted = {name: digest for name, (_, digest) in FILES.items()}
    here = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return [name for name, digest in wanted.items() if here.get(name) != digest]


def _by_npm() -> dict[str, bytes]:
    """Return the files as npm has fetched them, compared with what they must be."""
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError(f"{PACKAGE} {VERSION} is fetched by npm, which is not installed", HINT)
    with scratch("npm") as folder:
        words = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--ignore-scripts"]
        try:
            done = subprocess.run(
                words, cwd=folder, capture_output=True, text=True, errors="replace",
                timeout=PATIENCE, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"npm has not fetched {PACKAGE}: {first_line(error)}", HINT) from None
        found = [name for name in os.listdir(folder) if name.endswith(".tgz")]
        if done.returncode or not found:
            why = next(iter(done.stderr.strip().splitlines()[-1:]), f"exit code {done.returncode}")
            raise InputError(f"npm has not fetched {PACKAGE} {VERSION}: {why[:200]}", HINT)
        package = folder / found[0]
        digest = hashlib.sha512(package.read_bytes()).hexdigest()
        if digest != SHA512:
            raise InputError(
                f"what npm gives as {PACKAGE} {VERSION} has the sha512 {digest[:16]}…, not "
                f"{SHA512[:16]}…, so it is another file",
                "ask whoever keeps your registry; nothing of it was kept",
            )
        return _of_package(package)
