"""Codes from a file, as `zoo embed` writes them or NumPy does, and the pictures they stand for."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.catalog import Preprocess
from zoo.disk import opened
from zoo.engine import Array
from zoo.errors import DataError
from zoo.predict.predictor import Opening, open_network
from zoo.predict.reconstruct import must_reconstruct, to_pixels

if TYPE_CHECKING:
    from torch import nn

NUMPY = (".npz", ".npy")
MOST = 2**31  # bytes of codes, in memory
BATCH = 256
WRITES = "`zoo embed RUN PHOTOS -o codes.parquet` writes codes"


@dataclass(frozen=True, slots=True)
class Codes:
    """N codes of one file. errors: of each row why there is no code; values: N D, NaN in those."""

    names: list[str]
    errors: list[str]
    values: Array


@dataclass(frozen=True, slots=True)
class Decoded:
    """One row: a picture, uint8 S x S x C, or why there is none."""

    name: str
    picture: Array | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Decoder:
    """The part of an autoencoder behind its code of `width` numbers."""

    part: nn.Sequential
    width: int
    preprocess: Preprocess
    device: str
    about: str

    def rows(self, codes: Codes) -> Iterator[Decoded]:
        """Yield one Decoded for each row, in order."""
        import torch

        for start in range(0, len(codes.names), BATCH):
            values = np.nan_to_num(codes.values[start : start + BATCH])
            with torch.inference_mode():
                outputs = self.part(torch.from_numpy(values).to(self.device)).float().cpu().numpy()
            for row, output in enumerate(outputs, start):
                if codes.errors[row]:
                    yield Decoded(codes.names[row], error=codes.errors[row])
                else:
                    yield Decoded(codes.names[row], to_pixels(output, self.preprocess))


def open_decoder(folder: str, device: str = "auto", *, trusts: bool = False) -> Decoder:
    """Return the Decoder of an autoencoder's run. Raises UsageError for a classifier's."""
    from torch import nn

    from zoo.models import cut

    must_reconstruct(folder)
    net, place, text = open_network(folder, Opening(device=device, trusts=trusts))
    _, part = cut.halves(net.chain.eval(), net.spec.code)
    layer = net.chain.get_submodule(net.spec.code)
    assert isinstance(layer, nn.Linear), "a code is what leaves a dense layer"
    return Decoder(part.to(place.torch), layer.out_features, net.preprocess, place.name, text)


def holds(target: str) -> bool:
    """Return whether this is a file of codes, and no pictures or list of them, by its columns."""
    path = Path(target)
    kind = path.suffix.lower()
    if kind not in _READERS or not path.is_file():
        return False
    return kind in NUMPY or bool({"features", "f0"} & set(_columns(path)))


def read(path: Path, width: int) -> Codes:
    """Return the codes of a file. Raises DataError where they are not `width` numbers a row."""
    try:
        with opened(path, MOST):
            found = _READERS[path.suffix.lower()](path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", WRITES) from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} holds no codes: {str(error)[:160]}", WRITES) from None
    if found.values.ndim != 2 or not len(found.values) or found.values.shape[1] != width:
        shape = " x ".join(f"{n:,}" for n in found.values.shape)
        raise DataError(
            f"{path} has {shape} numbers, and a code of this network is a row of {width:,}",
            "a code is of the network that made it: `zoo embed` with this run writes them",
        )
    for row in np.flatnonzero(~np.isfinite(found.values).all(axis=1)):
        if not found.errors[row]:
            column = int(np.flatnonzero(~np.isfinite(found.values[row]))[0])
            raise DataError(
                f"{path}, row {row + 1:,}: number {column + 1} is {found.values[row, column]}",
                "every number of a code is finite: mend the row, or take it out",
            )
    return found


def _columns(path: Path) -> list[str]:
    """Return the names of the columns of a CSV or Parquet file; none where it is none of them."""
    try:
        if path.suffix.lower() == ".csv":
            with open(path, newline="", encoding="utf-8", errors="replace") as file:
                return next(csv.reader([file.readline(2**20)]), [])
        from pyarrow import parquet

        return list(parquet.read_schema(path).names)
    except (OSError, ImportError, ValueError, csv.Error):
        return []


def _of_csv(path: Path) -> Codes:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.DictReader(file, strict=True)
        numbers = [
            name for name in table.fieldnames or () if name[:1] == "f" and name[1:].isdigit()
        ]
        names: list[str] = []
        errors: list[str] = []
        values: list[Array] = []
        try:
            for row in table:
                error = _error(row.get("status"), row.get("error"))
                names.append(row.get("path") or f"row {len(names) + 1}")
                errors.append(error)
                cells = [np.nan if error else _number(row[name]) for name in numbers]
                values.append(np.array(cells, np.float32))
        except (csv.Error, ValueError) as error:
            raise ValueError(f"line {table.line_num}: {error}") from None
    return Codes(names, errors, np.stack(values) if values else np.zeros((0, len(numbers))))


def _number(text: str | None) -> float:
    if text is None:
        raise ValueError("it has fewer fields than the header")
    return float(text)


def _error(status: object, error: object) -> str:
    """Return why a row of `zoo embed` has no code; nothing where it has one."""
    return "" if status in (None, "", "ok") else str(error or status)


def _of_parquet(path: Path) -> Codes:
    from pyarrow import parquet

    with closing(parquet.ParquetFile(path, memory_map=False)) as file:
        names = [name for name in ("path", "status", "error") if name in file.schema_arrow.names]
        table = file.read(columns=[*names, "features"])
    texts = {name: table.column(name).to_pylist() for name in names}
    count = table.num_rows
    errors = [_error(*pair) for pair in zip(*(texts.get(n, [None] * count)
              for n in ("status", "error")), strict=True)]  # fmt: skip
    rows = table.column("features").to_pylist()
    width = next((len(row) for row in rows if row is not None), 0)
    nothing = [np.nan] * width
    values = np.array([nothing if row is None else row for row in rows], np.float32)
    paths = texts.get("path", [None] * count)
    return Codes([name or f"row {n}" for n, name in enumerate(paths, 1)], errors, values)


def _of_npz(path: Path) -> Codes:
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MOST:
        raise ValueError(f"unpacked it would be {size:,} bytes, and {MOST:,} are the limit")
    with np.load(path, allow_pickle=False) as arrays:
        values = np.asarray(arrays["features"], np.float32)
        texts = {name: arrays[name].tolist() for name in ("path", "status", "error")
                 if name in arrays}  # fmt: skip
    count = len(values) if values.ndim else 0
    paths, status, error = (texts.get(n, [""] * count) for n in ("path", "status", "error"))
    errors = [_error(*pair) for pair in zip(status, error, strict=True)]
    return Codes([name or f"row {n}" for n, name in enumerate(paths, 1)], errors, values)


def _of_npy(path: Path) -> Codes:
    values = np.asarray(np.load(path, allow_pickle=False, mmap_mode="r"), np.float32)
    count = len(values) if values.ndim else 0
    return Codes([f"row {number}" for number in range(1, count + 1)], [""] * count, values)


_READERS: dict[str, Callable[[Path], Codes]] = {
    ".parquet": _of_parquet,
    ".csv": _of_csv,
    ".npz": _of_npz,
    ".npy": _of_npy,
}
