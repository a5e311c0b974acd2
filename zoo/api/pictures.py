"""Pictures as a caller has them: paths, bytes of a file, Pillow's images, uint8 arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from glob import has_magic
from io import StringIO
from typing import TYPE_CHECKING

from zoo.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from zoo.predict.inputs import Input, Inputs

    Picture = str | os.PathLike[str] | bytes | Image.Image | np.ndarray[tuple[int, ...], np.dtype]
    Pictures = Picture | Iterable[Picture]

_ARE = "a picture is a path, the bytes of a file, a PIL image, or a uint8 array of H x W x 3"
_CHANNELS = (1, 3, 4)


def inputs_of(pictures: Pictures) -> Inputs:
    """Return the inputs that pictures are, in order: one, several of them, or a folder of them.

    A path alone is what `zoo predict` takes: a folder, a file, a pattern or a list of paths; in a
    list a path that leads nowhere costs its own row only. Raises UsageError, DataError.
    """
    import numpy as np
    from PIL import Image

    from zoo.predict.inputs import Inputs, find

    if isinstance(pictures, Mapping) or hasattr(pictures, "columns"):
        raise UsageError(
            f"the pictures are a {type(pictures).__name__}, which may hold other things as well",
            "give what has the pictures alone: of a table `table['path']`",
        )
    if isinstance(pictures, str | os.PathLike):
        return find(_path(pictures), StringIO())
    some: Iterable[object] = pictures if isinstance(pictures, Iterable) else [pictures]
    alone = bytes | bytearray | memoryview | Image.Image | np.ndarray
    if isinstance(pictures, alone):
        several = isinstance(pictures, np.ndarray) and pictures.ndim == 4
        some = list(np.asarray(pictures)) if several else [pictures]
    each = (one for at, picture in enumerate(some) for one in _each(picture, at))
    if not isinstance(some, Sequence):  # it may be endless
        return Inputs(each)
    found = list(each)
    return Inputs(iter(found), len(found))


def _path(path: str | os.PathLike[str]) -> str:
    """Return the path; `-` is a file and never stdin."""
    said = os.fspath(path)
    return os.path.join(".", said) if said == "-" else said


def _each(picture: object, at: int) -> Iterator[Input]:
    """Yield the inputs that a member of a list is: one, or those of a folder or a pattern."""
    import numpy as np
    from PIL import Image

    from zoo.predict.inputs import Input, find_all

    if isinstance(picture, str | os.PathLike):
        said = _path(picture)
        if os.path.exists(said) or has_magic(said):
            yield from find_all([said], StringIO()).each
        else:  # its row says that it is not there
            yield Input(said, said)
        return
    name = f"picture {at}"
    if isinstance(picture, bytes | bytearray | memoryview):
        yield Input(name, name, bytes(picture))
    elif isinstance(picture, Image.Image):
        name = os.fspath(getattr(picture, "filename", "")) or name
        yield Input(name, name, picture)
    elif isinstance(picture, np.ndarray):
        yield Input(name, name, _image(picture, name))
    else:
        kind = type(picture).__name__
        tensor = "`tensor.permute(1, 2, 0).numpy()` is one of a tensor of uint8"
        more = tensor if kind == "Tensor" else "open it with PIL.Image.open, or give its path"
        raise UsageError(f"{name} is of type {kind}: {_ARE}", more)


def _image(array: np.ndarray[tuple[int, ...], np.dtype], name: str) -> Image.Image:
    """Return an array as a picture. Raises UsageError for another type or shape."""
    import numpy as np
    from PIL import Image

    shape = " x ".join(map(str, array.shape)) or "no numbers"
    if array.dtype != np.uint8:
        raise UsageError(
            f"{name} is an array of {array.dtype}: pixels are uint8, from 0 to 255",
            "of floats from 0 to 1: `(255 * array).round().astype('uint8')`",
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    flat = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)
    if not flat or not array.size:
        first = array.ndim == 3 and array.shape[0] in _CHANNELS
        raise UsageError(
            f"{name} is an array of {shape}: a picture is H x W x 3, or H x W in grey",
            "channels come last: `array.transpose(1, 2, 0)`" if first else
            "give a list of arrays for several pictures of different sizes",
        )  # fmt: skip
    return Image.fromarray(np.ascontiguousarray(array))
