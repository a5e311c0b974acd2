"""The store: find, download, verify, read and load weights. No other room opens a weights file.

hashes.py    sha256, pins, "is it still the file that was checked?", and files read ahead
choice.py    what `--weights CHOICE` means
store.py     where a file is looked for, and what it must hash to
fetch.py     one URL to one file, whole or not at all
partial.py   what has arrived so far, for a later try
http.py      one URL to one open body
repository.py  weights with timm's config.json: a folder, or a repository of the Hub
hf_config.py the config.json that a run of a timm model has beside its weights
inventory.py what is kept: list, verify, remove
header.py    the safetensors format, checked to the last byte
tensors.py   types and bytes of torch's tensors in it
convert_worker.py  a torch file to safetensors, in a process of its own
stand_ins.py  classes of ours in place of those beside the weights
convert.py   which is started, limited and checked here
arrays.py    the same for safetensors and numpy, without torch
read.py      a file to named tensors and back
wrapped.py   which of them are the network's: keys and prefixes that trainers put before names
load.py      named tensors into a chain
text_tower.py  the text tower beside an image tower, as open_clip saves both
"""

from zoo.disk import cache_folder
from zoo.weights.arrays import digest_of_arrays, digest_of_file, read_arrays, save_arrays, shapes
from zoo.weights.choice import check_file, choose
from zoo.weights.fetch import Source, fetch
from zoo.weights.hashes import hash_of, let_go, read_ahead
from zoo.weights.load import load
from zoo.weights.read import check, read, read_as, save
from zoo.weights.repository import Repository, config_beside, fetched, file_in, repository
from zoo.weights.store import find, held
from zoo.weights.tensors import digest_of_state
from zoo.weights.text_tower import TextTower, text_tower

__all__ = [
    "Repository",
    "Source",
    "TextTower",
    "cache_folder",
    "check",
    "check_file",
    "choose",
    "config_beside",
    "digest_of_arrays",
    "digest_of_file",
    "digest_of_state",
    "fetch",
    "fetched",
    "file_in",
    "find",
    "hash_of",
    "held",
    "let_go",
    "load",
    "read",
    "read_ahead",
    "read_arrays",
    "read_as",
    "repository",
    "save",
    "save_arrays",
    "shapes",
    "text_tower",
]
