"""Export: Pillow's Preprocess in the graph, a real proof, and no file that is wrong."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from kit import ROOT, picture, write_photos
from PIL import Image

from zoo import network, weights
from zoo.catalog import Preprocess
from zoo.data.decode import LARGE, decode
from zoo.data.preprocess import apply, framed, normalise
from zoo.engine import graph_template
from zoo.engine.onnx import OnnxModel
from zoo.errors import InputError, ParityError, UsageError, WeightsError
from zoo.export import contract, written
from zoo.export.basis import About
from zoo.export.contract import Odd, alike, apart, compared, odd_photos, pixel_test, pixels
from zoo.export.graph import joined, preprocess_model
from zoo.export.onnx import export, export_run, key_of, write
from zoo.export.proof import check, compare_odd, prove
from zoo.export.records import Order
from zoo.network import model_file
from zoo.run import Run

SIZES = [(1, 1), (2, 3), (17, 40), (64, 64), (65, 63), (200, 90), (333, 500), (640, 33)]


@pytest.mark.parametrize(
    ("fit", "interpolation", "channels"),
    list(itertools.product(("crop", "pad", "squash"), ("bilinear", "bicubic"), (1, 3))),
)
def test_the_graph_does_what_pillow_does(fit, interpolation, channels):
    """On noise, the hardest picture: a byte in fifty differs, by 1."""
    does_what_pillow_does(64, fit, interpolation, channels)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [(48, 80), (80, 48)])
def test_the_graph_of_two_sides_does_what_pillow_does(size, fit):
    does_what_pillow_does(size, fit, "bicubic", 3)


def does_what_pillow_does(size, fit, interpolation, channels):
    preprocess = Preprocess(
        size=size,
        crop=224 / 232,
        fit=fit,
        interpolation=interpolation,
        channels=channels,
        mean=(0.4, 0.5, 0.6)[:channels],
        std=(0.2, 0.3, 0.25)[:channels],
    )
    model = preprocess_model(preprocess)
    taken = {name for node in model.graph.node for name in node.input}
    assert {one.name for one in model.graph.initializer} <= taken  # else each program says so
    session = onnxruntime.InferenceSession(model.SerializeToString())
    random = np.random.default_rng(0)
    step = 1 / 255 / min(preprocess.std)
    for height, width in SIZES:
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        (ours,) = session.run(None, {"image": pixels[None]})
        theirs = normalise(apply(Image.fromarray(pixels), preprocess), preprocess)
        difference = np.abs(ours[0] - theirs)
        assert difference.max() <= step * 1.01, (height, width)
        assert (difference > step / 2).mean() < 0.02, (height, width)
        view = np.asarray(apply(Image.fromarray(pixels), preprocess))
        view = view.reshape(*view.shape[:2], channels)
        (seen,) = session.run(None, {"image": framed(view, preprocess)[None]})
        assert np.array_equal(seen[0], normalise(view, preprocess))


def test_lanczos_is_refused_with_a_way_out():
    with pytest.raises(UsageError, match="lanczos") as error:
        preprocess_model(Preprocess(interpolation="lanczos"))
    assert "--input tensor" in error.value.hint


class LiesWhenTraced(torch.nn.Module):
    """Another answer to the exporters than in eager mode: what a broken exporter looks like."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        watched = torch.compiler.is_exporting() or torch.jit.is_tracing()
        return x.flip(1) * 3 if watched else x


@pytest.fixture(scope="module")
def lenet(photos):
    torch.manual_seed(3)
    net = network.pretrained("lenet", "none", seed=3)
    with torch.no_grad():
        net.chain[-1].weight.mul_(10)  # class scores far enough apart to be told from each other
    names = tuple(f"class {k}" for k in range(10))
    return replace(net, classes=names), sorted(photos.rglob("*.png"))


def test_the_file_gives_the_same_answers_and_says_what_it_is(tmp_path, lenet):
    net, photos = lenet
    proof = export(net, Order(photos, tmp_path / "model.onnx"))
    assert proof.agree == proof.photos >= 16
    assert proof.max_diff < 1e-3
    assert proof.network_diff < 1e-4
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(about["zoo.classes"]) == list(net.classes)
    assert Preprocess.from_dict(json.loads(about["zoo.preprocess"])) == net.preprocess
    assert about["zoo.input"] == "image"
    session = OnnxModel(tmp_path / "model.onnx")
    many = np.stack([np.asarray(Image.open(photos[0]).convert("RGB"))] * 3)
    probabilities = session.run(many)
    assert probabilities.shape == (3, 10)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_the_bare_network(tmp_path, lenet):
    net, photos = lenet
    proof = export(net, Order(photos, tmp_path / "bare.onnx", "tensor"))
    assert proof.input == "tensor"
    (value,) = onnx.load(tmp_path / "bare.onnx").graph.input
    shape = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
    assert shape[1:] == [1, 32, 32]
    assert isinstance(shape[0], str)


@pytest.mark.parametrize("there", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_file_that_disagrees_is_not_left(tmp_path, lenet, there):
    """And one that was there before stays."""
    net, photos = lenet
    liar = torch.nn.Sequential(*net.chain, LiesWhenTraced())
    if there:
        (tmp_path / "model.onnx").write_bytes(b"the old file")
    with pytest.raises(ParityError):
        export(replace(net, chain=liar), Order(photos, tmp_path / "model.onnx"))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the old file"] * there


@pytest.mark.parametrize("name", ["network_diff", "max_diff", "mean_diff"])
def test_each_tolerance_counts(name):
    good = {"network_diff": 0.0, "max_diff": 0.0, "mean_diff": 0.0}
    check(good)
    with pytest.raises(ParityError, match=name):
        check({**good, name: 0.06})
    with pytest.raises(ParityError, match=name):
        check({**good, name: float("nan")})


def test_no_photos_no_proof_no_file(tmp_path, lenet):
    net, _ = lenet
    with pytest.raises(InputError, match="no proof"):
        export(net, Order([tmp_path / "gone.png"], tmp_path / "model.onnx"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("zoo.classes", "[", "damaged"),
        ("zoo.preprocess", None, "damaged"),
        ("zoo.classes", '["one", "two"]', "2 names for 10 classes"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(tmp_path, lenet, key, value, says):
    net, photos = lenet
    export(net, Order(photos, tmp_path / "model.onnx"))
    model = onnx.load(tmp_path / "model.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props} | {key: value}
    del model.metadata_props[:]
    for name, text in about.items():
        if text is not None:
            model.metadata_props.add(key=name, value=text)
    onnx.save(model, tmp_path / "edited.onnx")
    with pytest.raises(WeightsError, match=says):
        OnnxModel(tmp_path / "edited.onnx")


def test_foreign_onnx_files_are_refused(tmp_path):
    (tmp_path / "junk.onnx").write_bytes(b"not a model")
    with pytest.raises(WeightsError, match="not an ONNX file"):
        OnnxModel(tmp_path / "junk.onnx")
    onnx.save(preprocess_model(Preprocess(size=8)), tmp_path / "foreign.onnx")
    with pytest.raises(WeightsError, match="no class names"):
        OnnxModel(tmp_path / "foreign.onnx")


# By the stored graph, without torch.


def without_torch(*words):
    """The command in a fresh process; its stdout, and whether torch was imported."""
    code = f"import sys, zoo.cli\nassert zoo.cli.main({[str(word) for word in words]!r}) == 0\n"
    code += "print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.splitlines()[-1] == "False"


def same_answers(path, folder, photos):
    """The file beside torch, on photos that may be others than those of the proof."""
    net, model = network.of_run(Run.open(folder)), OnnxModel(path)
    for photo in photos:
        pixels = np.asarray(Image.open(photo).convert("RGB"))
        small = normalise(apply(Image.fromarray(pixels), net.preprocess), net.preprocess)
        with torch.no_grad():
            theirs = net.chain.eval()(torch.from_numpy(small)[None]).softmax(1)[0].numpy()
        assert np.abs(model.run(pixels[None])[0] - theirs).max() < 0.02


@pytest.mark.parametrize("kind", ["image", pytest.param("tensor", marks=pytest.mark.slow)])
def test_a_run_is_exported_and_proved_without_torch(tmp_path, run, photos, kind):
    folder = shutil.copytree(run, tmp_path / "run")
    out, free = without_torch("export", "onnx", folder, "--json", "--input", kind)
    proof = json.loads(out)
    assert free
    assert proof["reference"] == "val.csv"
    assert proof["agree"] == proof["photos"] >= 4
    assert proof["network_diff"] < 1e-4
    onnx.checker.check_model(onnx.load(folder / "model.onnx"), full_check=True)
    if kind == "image":
        same_answers(folder / "model.onnx", folder, sorted(photos.rglob("*.png"))[::5])


@pytest.mark.slow
@pytest.mark.parametrize("column", ["predicted", "probability"])
def test_where_it_disagrees_with_what_was_written_down_torch_decides(tmp_path, run, here, column):
    folder = shutil.copytree(run, tmp_path / "run")
    with (folder / "val.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    other = {"disc": "square", "square": "stripes", "stripes": "disc"}
    for row in rows:
        row["predicted"] = other[row["predicted"]] if column == "predicted" else row["predicted"]
        row["probability"] = "0.5" if column == "probability" else row["probability"]
    with (folder / "val.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    answer = here("export", "onnx", folder, "--json")
    assert answer.code == 0, answer.err
    assert "computing the run's answers anew" in answer.err
    assert json.loads(answer.out)["reference"] == "torch"


def test_photos_that_the_run_never_saw_are_compared_with_torch(tmp_path, run, here):
    shutil.copytree(run, tmp_path / "run")
    seen = write_photos(tmp_path / "others", each=2)
    answer = here("export", "onnx", tmp_path / "run", "--json", "--photos", seen, "--count", 5)
    assert answer.code == 0, answer.err
    proof = json.loads(answer.out)
    assert (proof["reference"], proof["photos"]) == ("torch", 5)
    once = (tmp_path / "run" / "model.onnx").read_bytes()
    assert here("export", "onnx", tmp_path / "run", "-f").code == 0  # by what is written down
    assert (tmp_path / "run" / "model.onnx").read_bytes() == once


@pytest.mark.slow
def test_the_graph_of_a_variant_is_kept_after_its_first_export(tmp_path, photos, here):
    """Another seed's run of it is exported without torch."""
    words = ["--variant", "norm=batch", "--epochs", 2]
    for name, seed in (("a", 1), ("b", 2)):
        done = here("train", "mlp", photos, *words, "--seed", seed, "-o", tmp_path / name)
        assert done.code == 0, done.err
    key = key_of(Run.open(tmp_path / "a"))
    (graph_template.folder() / key).unlink(missing_ok=True)
    first, free = without_torch("export", "onnx", tmp_path / "a", "--json")
    assert not free
    assert json.loads(first)["reference"] == "torch"
    traced = (tmp_path / "a" / "model.onnx").read_bytes()
    assert here("export", "onnx", tmp_path / "a", "-f").code == 0
    assert (tmp_path / "a" / "model.onnx").read_bytes() == traced
    second, free = without_torch("export", "onnx", tmp_path / "b", "--json")
    assert free
    assert json.loads(second)["reference"] == "val.csv"
    same_answers(tmp_path / "b" / "model.onnx", tmp_path / "b", sorted(photos.rglob("*.png"))[::9])


def test_a_stored_graph_that_is_wrong_is_found_out(tmp_path, run, photos, here, monkeypatch):
    """A cache is only a cache: the proof decides."""
    folder = shutil.copytree(run, tmp_path / "run")
    key = key_of(Run.open(folder))
    model = onnx.load_from_string(graph_template.find(key))
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Abs"
    monkeypatch.setattr(graph_template, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / f"{key}.onnx").write_bytes(model.SerializeToString())
    answer = here("export", "onnx", folder, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["reference"] == "torch"
    same_answers(folder / "model.onnx", folder, sorted(photos.rglob("*.png"))[::5])


@pytest.mark.parametrize(
    ("tensors", "preprocess", "says"),
    [
        ({"0": lambda array: array + 0.1}, {}, "network_diff|another class"),
        ({"-1": lambda array: array * 1.02}, {}, "network_diff"),
        ({"-1": lambda array: array[::-1]}, {}, "another class|network_diff"),
        ({}, {"mean": (0.6,), "std": (0.4,)}, "network_diff|another class|max_diff"),
        ({}, {"crop": 0.5}, "network_diff|another class|max_diff"),
    ],
)
def test_a_file_that_is_wrong_anywhere_is_refused(tmp_path, run, photos, tensors, preprocess, says):
    """In a weight, in the order of its classes, in what it does with raw pixels."""
    folder = Run.open(run)
    about = About.of_run(folder)
    recall = written.recalled(folder, folder.photos("val"), about, 8)
    state = dict(weights.read_arrays(model_file(folder)[0]))
    names = [name for name in state if name.endswith("weight")]
    for which, change in tensors.items():
        state[names[int(which)]] = np.ascontiguousarray(change(state[names[int(which)]]))
    network = graph_template.filled(graph_template.find(key_of(folder)), state)
    channels = {key: value * about.preprocess.channels for key, value in preprocess.items()
                if key in ("mean", "std")}  # fmt: skip
    whole = joined(network, replace(about.preprocess, **preprocess | channels))
    write(whole, about, "image", tmp_path / "model.onnx")
    with pytest.raises(ParityError, match=says):
        prove(tmp_path / "model.onnx", "image", None, recall, about)


def test_every_photo_of_a_proof_takes_one_pass(tmp_path, run, monkeypatch):
    """Half of them from raw pixels, half from what the run saw; odd ones are the same pixels."""
    folder = Run.open(run)
    about = About.of_run(folder)
    recall = written.recalled(folder, folder.photos("val"), about, 8)
    same = pixel_test(about.preprocess)
    with ThreadPoolExecutor(1) as pool:
        assert alike(pool, recall.pictures, same)
        path, pixels = recall.pictures[-1]
        turned = [*recall.pictures[:-1], (path, pixels[::-1])]
        assert not alike(pool, turned, same)
    asked = []
    real = OnnxModel.run
    monkeypatch.setattr(OnnxModel, "run", lambda file, batch: asked.append(0) or real(file, batch))
    proof = export_run(folder, Order(folder.photos("val"), tmp_path / "model.onnx"))
    assert proof.reference == "val.csv"
    assert (proof.network_photos, len(asked)) == ((proof.photos + 1) // 2, proof.photos)


# How a photo becomes the file's input.


def lines_of_readme():
    """The function that the page on export prints, from its text."""
    (text,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(), re.DOTALL)
    scope = {}
    exec(text, scope)  # our own page
    return text, scope["pixels"]


def mixed(folder):
    """80 photos of odd sizes in all kinds that the page's lines are for."""
    folder.mkdir()
    turns = (Image.Transpose.ROTATE_90, Image.Transpose.FLIP_LEFT_RIGHT)
    for number in range(80):
        kind = ("disc", "square", "stripes")[number % 3]
        image = picture(kind, number % 20).resize((23 + 7 * (number % 11), 150 - number))
        exif = Image.Exif()
        exif[0x0112] = 1 + number % 8
        save, suffix = {"exif": exif}, "png"
        match number % 10:
            case 0:
                suffix = "jpg"
            case 1:
                image.putalpha(image.convert("L").transpose(turns[1]))
            case 2:
                image = image.quantize(32)
                save["transparency"] = 3
            case 3:
                image = image.convert("LA")
                image.putalpha(image.getchannel(0))
            case 4:
                image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257 + 99)
            case 5:
                image, suffix = image.convert("CMYK"), "jpg"
            case 6:
                image = image.convert("1")
            case 7:
                image, suffix = image.convert("L"), "tif"
                save = {"tiffinfo": {0x0112: 1 + number % 8}}
            case 8:
                image, suffix, save = image.convert("P"), "gif", {}
            case 9:
                suffix = "webp"
        image.save(folder / f"{number:02}.{suffix}", **save)
    return folder


def test_by_the_lines_of_readme_any_program_has_the_answers_of_predict(
    tmp_path, run, exported, here
):
    text, pixels = lines_of_readme()
    about = OnnxModel(exported).about["zoo.decoding"]
    assert about.endswith(text)
    assert sum(bool(line) for line in text.splitlines()) <= 12
    answer = here("predict", run, mixed(tmp_path / "mixed"))
    rows = list(csv.DictReader(answer.out.splitlines()))
    assert len(rows) == 80
    session = onnxruntime.InferenceSession(exported)
    classes = OnnxModel(exported).classes
    for row in rows:
        given = pixels(str(tmp_path / "mixed" / row["path"]))
        (shares,) = session.run(None, {"image": given})
        assert classes[shares[0].argmax()] == row["label"], row["path"]
        assert abs(shares.max() - float(row["probability"])) < 1e-3, row["path"]


def test_the_proof_is_on_odd_photos_too_whatever_the_runs_own_are(tmp_path, run, here):
    folder = shutil.copytree(run, tmp_path / "run")
    answer = here("export", "onnx", folder, "--json")
    proof = json.loads(answer.out)
    assert proof["odd_photos"] == proof["odd_agree"] == 6
    assert (proof["odd_max_diff"], proof["odd_worst"]) == (0, None)
    assert "on 6 photos of odd sizes and kinds, decoded as docs/export.md says" in answer.err
    assert "the network sees the same pixels" in answer.err
    assert Run.open(folder).record["exported"]["image"]["odd_max_diff"] == proof["odd_max_diff"]
    bare = here("export", "onnx", folder, "--json", "--input", "tensor")
    assert json.loads(bare.out)["odd_photos"] is None


def test_odd_photos_are_what_they_say(photos):
    odd = {
        each.what: each.data
        for each in odd_photos(sorted(photos.rglob("*.png")), Preprocess(size=32))
    }
    opened = {what: Image.open(io.BytesIO(data)) for what, data in odd.items()}
    assert {image.mode for image in opened.values()} == {"P", "RGBA", "I;16", "LA", "CMYK", "RGB"}
    assert {image.getexif().get(0x0112, 1) for image in opened.values()} == {1, 5, 6}
    assert max(image.width * image.height for image in opened.values()) > LARGE
    assert all(image.width != image.height for image in opened.values())


def test_the_lines_give_the_very_pixels_that_zoo_decodes(tmp_path, photos):
    for odd in odd_photos(sorted(photos.rglob("*.png")), Preprocess(size=32)):
        (tmp_path / "photo").write_bytes(odd.data)
        assert np.array_equal(pixels(tmp_path / "photo")[0], decode(odd.data)), odd.what


def inked():
    """A TIFF that the lines of the page are not for: of 16 bits, with white at 0."""
    grey = np.tile(np.linspace(0, 65535, 80).astype(np.uint16), (60, 1))
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "TIFF", tiffinfo={262: 0})
    return Odd("ink", file.getvalue())


def test_which_odd_photos_come_to_other_pixels(exported, photos):
    """None of those that are made of a run's; one that is not for the lines, or a turned one."""
    file = OnnxModel(exported)
    same, asked = pixel_test(file.preprocess), []

    def turned(raw, view):
        return same(raw[:, ::-1], view)

    odd = odd_photos(sorted(photos.rglob("*.png")), file.preprocess)
    for one in odd:
        assert compared(one, file.run, None, file.preprocess, same) is None, one.what
        other = compared(one, file.run, None, file.preprocess, turned)
        asked.append(other is not None)
    assert asked == [True] * 5 + [False]
    assert compared(inked(), file.run, None, file.preprocess, same) is not None


@pytest.mark.parametrize("why", ["forbidden", "another system", "no /proc"])
def test_a_photo_is_in_a_file_where_none_may_be_in_memory(tmp_path, monkeypatch, why):
    """As in a sandbox, and on macOS and Windows."""

    def forbidden(name):
        raise PermissionError(1, "Operation not permitted")

    if why == "forbidden":
        monkeypatch.setattr(os, "memfd_create", forbidden, raising=False)
    elif why == "another system":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    else:
        monkeypatch.setattr(contract, "OPEN", tmp_path / "proc")
    assert apart(inked(), Preprocess(size=32)) is not None


@pytest.mark.parametrize(
    "other",
    [
        lambda raw: raw[:, ::-1],
        lambda raw: raw.transpose(0, 2, 1, 3),
        lambda raw: raw[..., ::-1],
        lambda raw: raw[:, 40:],
    ],
    ids=["turned over", "on its side", "BGR", "cut"],
)
def test_a_large_photo_that_is_decoded_otherwise_is_no_small_one(
    photos, monkeypatch, exported, other
):
    preprocess = OnnxModel(exported).preprocess
    *_, large = odd_photos(sorted(photos.rglob("*.png")), preprocess)
    levels = pixel_test(preprocess)
    assert apart(large, preprocess, levels) is None
    monkeypatch.setattr(contract, "pixels", lambda path: np.ascontiguousarray(other(pixels(path))))
    assert apart(large, preprocess, levels) is not None


def test_a_file_that_answers_odd_photos_otherwise_is_refused(tmp_path, run, exported, here):
    assert here("export", "onnx", run, "--input", "tensor", "-o", tmp_path / "bare.onnx").code == 0
    file, network = OnnxModel(exported), OnnxModel(tmp_path / "bare.onnx")
    about = About("lenet", file.preprocess, file.classes)
    odd = [*odd_photos(Run.open(run).photos("val"), file.preprocess), inked()]

    def other(raw):
        return np.roll(file.run(raw), 1, axis=1)

    with ThreadPoolExecutor(1) as pool:
        good = compare_odd(pool, odd, file.run, network.run, about)
        assert good["odd_agree"] == 7
        assert good["odd_worst"] == "ink"
        with pytest.raises(ParityError, match="photos of odd sizes and kinds"):
            compare_odd(pool, odd, other, network.run, about)
