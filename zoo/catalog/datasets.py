"""Data sets that are known by name: where they come from and what their files must hash to.

The sha256 of MNIST were taken from the four files as distributed; those of Fashion-MNIST are those
that TensorFlow Datasets and others verify. The MD5 are torchvision's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file, and what it must be. urls: where it is, the best first."""

    name: str
    bytes: int
    sha256: str
    md5: str = ""
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataSet:
    """One row. classes: in the order of the labels. source: the paper or page to cite.

    drawn: pictures of each class in each part, of a set that our own code draws and has no files.
    """

    name: str
    title: str
    source: str
    licence: str
    classes: tuple[str, ...]
    files: tuple[DataFile, ...] = ()
    drawn: tuple[tuple[str, int], ...] = ()


def _idx(hosts: tuple[str, ...], *rows: tuple[str, int, str, str]) -> tuple[DataFile, ...]:
    """Files (name, bytes, sha256, md5) that lie beside each other on every host."""
    return tuple(
        DataFile(name, size, sha256, md5, tuple(f"{host}/{name}" for host in hosts))
        for name, size, sha256, md5 in rows
    )


MNIST = DataSet(
    name="mnist",
    title="MNIST: 70,000 handwritten digits, 28 x 28, grey",
    source="LeCun et al. 1998, Gradient-based learning applied to document recognition",
    licence="CC BY-SA 3.0",
    classes=tuple("0123456789"),
    files=_idx(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "http://yann.lecun.com/exdb/mnist",
        ),
        (
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "d53e105ee54ea40749a09fcbcd1e9432",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "9fb629c4189551a2d022fa330f9573f3",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
)

FASHION_MNIST = DataSet(
    name="fashion-mnist",
    title="Fashion-MNIST: 70,000 pieces of clothing, 28 x 28, grey",
    source="Xiao et al. 2017, https://arxiv.org/abs/1708.07747",
    licence="MIT",
    classes=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
        "Bag", "Ankle boot",
    ),
    files=_idx(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",),
        (
            "train-images-idx3-ubyte.gz",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "25c81989df183df01b3e8a0aad5dffbe",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "bef4ecab320f06d8554ea6380940ec79",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
)  # fmt: skip

XO = DataSet(
    name="xo",
    title="X's and O's: 1,600 pictures of 9 x 9, black and white, drawn by zoo",
    source="after Rohrer 2016, How do Convolutional Neural Networks work?",
    licence="Apache-2.0",
    classes=("O", "X"),
    drawn=(("train", 600), ("val", 200)),
)

ROWS: dict[str, DataSet] = {row.name: row for row in (MNIST, FASHION_MNIST, XO)}


def holding(sha256: str) -> DataSet | None:
    """The data set of which this is a file."""
    for row in ROWS.values():
        if any(file.sha256 == sha256 for file in row.files):
            return row
    return None


def called(folder: str) -> DataSet | None:
    """Return the data set that a folder is named after, as `FashionMNIST`."""
    plain = "".join(filter(str.isalnum, folder.lower()))
    return next((row for row in ROWS.values() if row.name.replace("-", "") == plain), None)
