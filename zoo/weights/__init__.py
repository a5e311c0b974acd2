"""The store: find, download, verify, read and load weights. No other room opens a weights file.

hashes.py    sha256, and "is it still the file that was checked?"
fetch.py     one URL to one file
store.py     where a file is looked for, and what it must hash to
header.py    the header of a safetensors file, checked to the last byte
files.py     a file to named tensors and back
fit.py       named tensors into a chain
"""

from zoo.weights.fetch import fetch
from zoo.weights.files import read, save
from zoo.weights.fit import load
from zoo.weights.store import cache_folder, choose, find

__all__ = ["cache_folder", "choose", "fetch", "find", "load", "read", "save"]
