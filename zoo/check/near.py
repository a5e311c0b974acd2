"""Pictures that are the same but for a new encoding, another size, a small crop, or a mirror.

A perceptual hash as pHash (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash
Functions"), of which the numbers are kept and not only their signs: the low frequencies of a small
grey copy, each weighted by its frequency, since those of all photos fall off with it. Two hashes
are compared by their cosine. A mirror image has the same frequencies, the odd ones across with the
other sign. Whoever is close is compared again, finely, to crops of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from zoo.head.threads import one_thread
from zoo.metrics import Array
from zoo.watch import check

SAME = 0.93  # cosine of two fine hashes; the nearest different photos that we know have 0.9
CLOSE = 0.65  # of two coarse ones, to be compared finely
COARSE, FINE = (8, 0.5), (16, 1.0)  # frequencies in each direction, power of their weight
NEAREST = 4  # photos that each one is compared to finely
CROPS = ((1.0, 0.95, 0.9), 3)  # sides, in shares of the picture; places of each, in a direction
FINER = ((1.0, 0.975, 0.95, 0.925, 0.9), 5)  # of those that may be the same
MAYBE = 0.8  # cosine by the first crops, from which on the finer ones are tried
FLAT = 4.0  # standard deviation of the greys, of 255: below there is nothing to compare
_BLOCK = 1024
WHOLE = (0.0, 1.0)

Pair = tuple[int, int, float]
Crops = tuple[tuple[float, ...], int]
Span = tuple[float, float]


def near_pairs(greys: Array, also: Iterable[tuple[int, int]] = ()) -> list[Pair]:
    """Return (i, j, cosine), i < j, of the pictures that are the same; the closest first.

    greys: N x S x S uint8, small copies. also: pairs to compare finely, whatever their hashes are.
    """
    usable = greys.reshape(len(greys), -1).std(axis=1) >= FLAT
    pairs = {(min(i, j), max(i, j)) for i, j in also if usable[i] and usable[j]}
    with one_thread():
        pairs |= set(_close(greys, usable))
        if not pairs:
            return []
        order = np.array(sorted(pairs), np.int64)
        cosines = _finely(greys, order, CROPS)
        again = np.flatnonzero((cosines >= MAYBE) & (cosines < SAME))
        cosines[again] = _finely(greys, order[again], FINER)
    kept = np.flatnonzero(cosines >= SAME)
    found = [(int(order[n, 0]), int(order[n, 1]), float(cosines[n])) for n in kept]
    return sorted(found, key=lambda pair: -pair[2])


def _close(greys: Array, usable: Array) -> Iterator[tuple[int, int]]:
    """Yield the pairs whose coarse hashes are close, of each picture the closest few."""
    hashes = _hashes(_bands(greys, COARSE, WHOLE), COARSE, WHOLE)
    hashes[~usable] = 0
    turned = _mirrored(hashes, COARSE[0])
    for first in range(0, len(greys), _BLOCK):
        check()
        block = hashes[first : first + _BLOCK]
        cosines = np.maximum(block @ hashes.T, block @ turned.T)
        cosines[np.arange(len(block)), first + np.arange(len(block))] = -1
        rows, others = np.nonzero(cosines >= CLOSE)
        order = np.lexsort((-cosines[rows, others], rows))
        rows, others = rows[order], others[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = place < NEAREST
        for i, j in zip((first + rows[kept]).tolist(), others[kept].tolist(), strict=True):
            yield min(i, j), max(i, j)


def _finely(greys: Array, pairs: Array, crops: Crops) -> Array:
    """Return the cosine of each pair's fine hashes: one whole, the other whole, cropped or turned.

    pairs: M x 2.
    """
    best = np.full(len(pairs), -1, np.float32)
    if not len(pairs):
        return best
    rows, where = np.unique(pairs, return_inverse=True)
    where = where.reshape(-1, 2)
    used = greys[rows]
    whole = _hashes(_bands(used, FINE, WHOLE), FINE, WHOLE)
    turned = _mirrored(whole, FINE[0])
    for down, spans in _boxes(*crops):
        check()
        bands = _bands(used, FINE, down)
        for across in spans:
            cropped = _hashes(bands, FINE, across)
            for first in range(0, len(pairs), _BLOCK):
                part = slice(first, first + _BLOCK)
                for mine, theirs in (where[part].T, where[part, ::-1].T):
                    other = cropped[theirs]
                    for hashes in (whole, turned):
                        cosines = np.einsum("nf,nf->n", hashes[mine], other)
                        best[part] = np.maximum(best[part], cosines)
    return best


def _boxes(sides: tuple[float, ...], places: int) -> Iterator[tuple[Span, list[Span]]]:
    """Yield where crops begin and end down, and of each of these across; shares of the picture."""
    for side in sides:
        starts = [0.0] if side == 1 else [float(x) for x in np.linspace(0, 1 - side, places)]
        spans = [(start, start + side) for start in starts]
        for down in spans:
            yield down, spans


def _bands(greys: Array, kind: tuple[int, float], down: Span) -> Array:
    """Return N x S x k: the frequencies of a part of each column."""
    columns = greys.transpose(0, 2, 1).astype(np.float32)
    return np.asarray(columns @ _frequencies(greys.shape[1], kind[0], *down).T)


def _hashes(bands: Array, kind: tuple[int, float], across: Span) -> Array:
    """Return N x F float32 of length 1: weighted frequencies of a box of each picture."""
    many, power = kind
    found = bands.transpose(0, 2, 1) @ _frequencies(bands.shape[1], many, *across).T
    distance = np.hypot(*np.indices((many, many)))
    weights = np.where(distance < many, distance**power, 0).astype(np.float32)
    weights[0, 0] = 0  # how light it is
    found = (found * weights).reshape(len(bands), -1)
    lengths = np.sqrt(np.einsum("nf,nf->n", found, found))[:, None]
    return np.asarray(found / np.maximum(lengths, 1e-6), np.float32)


def _frequencies(side: int, many: int, begin: float, end: float) -> Array:
    """Return many x side: the box from begin to end enlarged to `side`, then its DCT."""
    from scipy.fft import dct

    places = side * (begin + (np.arange(side) + 0.5) * (end - begin) / side) - 0.5
    places = places.clip(0, side - 1)[:, None]
    bilinear = np.maximum(0, 1 - np.abs(places - np.arange(side)))
    return np.asarray(dct(bilinear, axis=0, norm="ortho")[:many], np.float32)


def _mirrored(hashes: Array, many: int) -> Array:
    """Return the hashes of the mirror images."""
    signs = np.where(np.arange(many) % 2, -1, 1).astype(np.float32)
    return np.asarray((hashes.reshape(-1, many, many) * signs).reshape(len(hashes), -1))
