"""A run to one ONNX file with its proof.

The file is written beside its destination, compared with the run on real photos through ONNX
Runtime, and takes its name only when the two agree. Where the network's graph is stored (see
zoo.engine.skeleton) and the run wrote down what it says of the photos, none of it needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import __version__, weights
from zoo.device import Device
from zoo.disk import replacing, writing
from zoo.engine import Array, graph, skeleton
from zoo.engine.open import engine_of
from zoo.engine.select import choose
from zoo.errors import DisagreementError, ParityError, WeightsError, WriteError, ZooError
from zoo.export.contract import decoding
from zoo.export.graph import joined
from zoo.export.proof import (
    PHOTOS,
    About,
    Pictures,
    Reference,
    computed,
    enough,
    prove,
    readable,
    recalled,
)
from zoo.machine import cores
from zoo.metrics import ENOUGH
from zoo.network import Network, model_file, of_run, recorded
from zoo.network_ref import ref_of_run as of_folder
from zoo.run import Run

if TYPE_CHECKING:
    import onnx
    from torch import nn

COMPARED = 100  # photos of a run in another precision
LIMIT = 2**31 - 2**20  # a protobuf message ends at 2 GB
OUTPUTS = ("logits",)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported file and the proof that it agrees with its run.

    reference: what it was compared with: `torch`, the run's network computed anew, or `val.csv`,
    the labels and probabilities (of the answers alone) that the run wrote down in training.
    network_diff: largest difference of a class score of the bare network, relative to the largest
    score; beside val.csv, of a probability; on network_photos of the photos.
    max_diff, mean_diff: of a probability, from raw pixels.
    agree of photos: equal top-1, or with several labels a picture all of them equal. All of it
    beside the run in fp32, in which the file computes; where the run predicts in another precision,
    agree_run is the agreement with that.

    computes: fp32 or int8. An int8 file is measured and not proved: agree, max_diff and mean_diff
    are beside the same network in fp32, whose network_diff is beside the run. calibrated: photos
    that its ranges were measured on. accuracy, accuracy_fp32: on those photos with a known class.

    odd_photos: of odd sizes and kinds (see zoo.export.contract), on which the file is beside its
    own network: odd_agree with an equal answer, odd_max_diff of a probability, on odd_worst.
    """

    path: str
    bytes: int
    input: str
    photos: int
    network_diff: float
    max_diff: float
    mean_diff: float
    agree: int
    runtime: str
    precision: str = "fp32"
    agree_run: int | None = None
    reference: str = "torch"
    computes: str = "fp32"
    calibrated: int | None = None
    accuracy: float | None = None
    accuracy_fp32: float | None = None
    network_photos: int | None = None
    odd_photos: int | None = None
    odd_agree: int | None = None
    odd_max_diff: float | None = None
    odd_worst: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def silent(text: str) -> None:
    pass


def export_run(
    run: Run,
    photos: Sequence[Path],
    destination: Path,
    kind: str = "image",
    say: Say = silent,
    most: int | None = None,
    *,
    force: bool = False,
) -> Exported:
    """Writes `destination` and proves it on at most so many of the photos.

    kind: `image` or `tensor`. most: else as many as take about a second; of a run in a lower
    precision COMPARED. Raises ParityError, and leaves no file, where the file and the run disagree,
    and DisagreementError where the file, in fp32, answers too often otherwise than a run in another
    precision, unless forced.
    """
    if run.record["precision"] != "fp32":
        most = most or COMPARED
    about, key, most = About.of_run(run), key_of(run), most or enough(run)
    stored, recall = skeleton.find(key), recalled(run, photos, about, most)
    if stored is not None and recall is not None:
        try:
            state = weights.read_arrays(model_file(run)[0])
            say(f"the graph is stored; comparing on {len(recall[0])} photos with val.csv")
            return write_stored(stored, state, about, *recall, destination, kind)
        except (ParityError, WeightsError) as error:  # torch has the last word
            say(f"{error.what}: computing the run's answers anew")
    pictures = readable(photos, about.preprocess, most)
    net = of_run(run)
    say("tracing the network" if stored is None else "computing the run's answers")
    network = filled(net, key)
    proof = write_proved(network, net, pictures, destination, kind, say)
    if (precision := run.record["precision"]) == "fp32":
        return proof
    agree = as_the_run(run, precision, pictures, net)
    if agree < ENOUGH * len(pictures) and not force:
        destination.unlink()
        raise DisagreementError(
            f"the file computes in fp32, and answers {agree} of {len(pictures)} photos as the run, "
            f"which predicts in {precision}; at least {100 * ENOUGH:g} % are needed",
            "train the run in fp32, without --precision; or take the file all the same: --force",
        )
    return replace(proof, precision=precision, agree_run=agree)


def as_the_run(run: Run, precision: str, pictures: Pictures, net: Network) -> int:
    """On how many photos fp32 gives the answer of the run, as `zoo predict` gets it."""
    place = Device("cpu", precision, cores(), "the proof is made on the CPU")
    engine, _ = engine_of(of_folder(run), choose("auto", place.name, precision)[0], place)
    inputs, about = np.stack([pixels for _, pixels in pictures]), About.of(net)
    parts = [inputs[at : at + engine.batch] for at in range(0, len(inputs), engine.batch)]
    own = computed(np.concatenate([engine(part) for part in parts]), about)
    exact = computed(torch_scores(net, inputs, "fp32"), about)
    return int((own.told == exact.told).all(axis=1).sum())


def export(
    net: Network,
    photos: Sequence[Path],
    destination: Path,
    kind: str = "image",
    say: Say = silent,
) -> Exported:
    """Export a network whose chain is at hand; see export_run."""
    pictures = readable(photos, net.preprocess, PHOTOS)
    say("tracing the network")
    return write_proved(trace(net), net, pictures, destination, kind, say)


def key_of(run: Run) -> str:
    record, preprocess = run.record, About.of_run(run).preprocess
    variant = record.get("variant", {})
    return skeleton.key_of(recorded(record), variant, record["head"], preprocess, OUTPUTS)


def filled(net: Network, key: str) -> onnx.ModelProto:
    """The chain by the skeleton of this key, which is made and kept where it is not there yet.

    One that is stored is compared with the chain, and made anew where it is not its graph.
    """
    import onnx

    channels, size = net.preprocess.channels, net.preprocess.size
    state = {name: tensor.cpu().numpy() for name, tensor in net.chain.state_dict().items()}
    with suppress(Exception):  # the runtime's errors have no common type
        if (stored := skeleton.find(key)) is not None:
            network = onnx.load_from_string(stored)
            skeleton.fill(network, state)
            chain, model = graph.on_cpu(net.chain), network.SerializeToString()
            if graph.difference(model, chain, channels, size) <= graph.AGREES:
                return network
    try:
        made = skeleton.make(net.chain, channels, size, OUTPUTS)
    except ZooError:  # not every network has one
        return trace(net)
    skeleton.keep(key, made)
    network = onnx.load_from_string(made)
    skeleton.fill(network, state)
    return network


def trace(
    net: Network, module: nn.Module | None = None, outputs: Sequence[str] = OUTPUTS
) -> onnx.ModelProto:
    """The chain as ONNX: `tensor` float32 N C S S -> `logits` N K, N dynamic.

    module: another one that takes the same input, and the names of what it gives.
    """
    import onnx

    channels, size = net.preprocess.channels, net.preprocess.size
    return onnx.load_from_string(graph.to_onnx(module or net.chain, channels, size, outputs))


# Two ways to a proved file.


def write_stored(
    stored: bytes,
    state: Mapping[str, Array],
    about: About,
    pictures: Pictures,
    reference: Reference,
    destination: Path,
    kind: str,
) -> Exported:
    """By a skeleton and the arrays of the run's file."""
    import onnx

    network, whole = onnx.load_from_string(stored), onnx.load_from_string(stored)
    if kind == "image":
        whole = joined(whole, about.preprocess, several=about.threshold is not None)
    describe(whole, about, kind)
    refuse_huge(sum(array.nbytes for array in state.values()))
    with replacing(destination) as path:
        try:
            with writing(path):
                places = skeleton.write_filled(path, whole, state)
            bare = skeleton.refer(network, state, path, places)
            result = prove(path, kind, bare, pictures, reference, about)
        except ZooError:
            raise
        except Exception as error:  # the runtime's have no common type: the graph cannot run
            raise ParityError(f"the stored graph: {str(error).splitlines()[0][:160]}") from error
    size = destination.stat().st_size
    return Exported(path=str(destination), bytes=size, input=kind, **result)


def write_proved(
    network: onnx.ModelProto,
    net: Network,
    pictures: Pictures,
    destination: Path,
    kind: str,
    say: Say,
) -> Exported:
    """By a graph with its weights, beside what torch computes with the chain."""
    about, inputs = About.of(net), np.stack([pixels for _, pixels in pictures])
    say(f"comparing with ONNX Runtime on {len(pictures)} photos")
    reference = computed(torch_scores(net, inputs, "fp32"), about)
    bare = network.SerializeToString()
    if kind == "image":
        network = joined(network, about.preprocess, several=about.threshold is not None)
    with replacing(destination) as path:
        write(network, about, kind, path)
        result = prove(path, kind, bare, pictures, reference, about)
    size = destination.stat().st_size
    return Exported(path=str(destination), bytes=size, input=kind, **result)


def torch_scores(net: Network, inputs: Array, precision: str) -> Array:
    """Class scores of the run's own engine: N x K."""
    from zoo.engine.torch import TorchEngine

    device = Device("cpu", precision, cores(), "the proof is made on the CPU")
    engine = TorchEngine(net.chain, net.preprocess, device)
    parts = [inputs[at : at + engine.batch] for at in range(0, len(inputs), engine.batch)]
    return np.concatenate([engine(part) for part in parts])


def write(
    model: onnx.ModelProto, about: About, kind: str, path: Path, more: dict[str, str] | None = None
) -> None:
    """Adds what a reader needs to know and writes it, whole and checked. more: metadata."""
    import onnx

    describe(model, about, kind, more)
    refuse_huge(model.ByteSize())
    content = model.SerializeToString()
    onnx.checker.check_model(content)
    with writing(path):
        path.write_bytes(content)


def describe(
    model: onnx.ModelProto, about: About, kind: str, more: dict[str, str] | None = None
) -> None:
    """The metadata of a file."""
    said = {
        "zoo.version": __version__,
        "zoo.model": about.model,
        "zoo.input": kind,
        "zoo.classes": json.dumps(about.classes, ensure_ascii=False),
        "zoo.preprocess": json.dumps(about.preprocess.to_dict()),
        "zoo.decoding": decoding(),
        **({} if about.threshold is None else {"zoo.task": "multilabel"}),
        **({} if about.threshold is None else {"zoo.threshold": f"{about.threshold:g}"}),
        **(more or {}),
    }
    del model.metadata_props[:]
    for key, value in said.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = "zoo", __version__


def refuse_huge(size: int) -> None:
    if size > LIMIT:
        raise WriteError(
            f"the model has {size / 1e9:.2f} GB, an ONNX file holds 2 GB",
            "choose a smaller network: `zoo list --sort params`",
        )
