"""Heads that begin with class names: what open_clip makes of them, blended, saved and exported."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import Watcher, carried_out, csv_rows, settings, sha256, tune, write_photos
from safetensors.torch import save_file

from zoo import models, network
from zoo.errors import Interrupted, UsageError, WeightsError
from zoo.finetune import begin, text_rows
from zoo.finetune.prepare import prepare
from zoo.head.layers import Cosine, Joint, Linear, unit
from zoo.head.text import blend
from zoo.network_ref import classifier_of_run
from zoo.run import Run

open_clip = pytest.importorskip("open_clip")

NAMES = ("red_barn", "T-Shirt", "ants")
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
TINY = {"timm_model_name": "test_vit", "timm_model_pretrained": False, "image_size": 160}
CLIP = {
    "embed_dim": 24,
    "vision_cfg": {**TINY, "timm_pool": "", "timm_proj": "linear"},
    "text_cfg": TEXT,
}
SIGLIP = {
    "embed_dim": 64,
    "custom_text": True,
    "init_logit_bias": -10,
    "vision_cfg": {**TINY, "timm_pool": "token", "timm_proj": "none"},
    "text_cfg": {**TEXT, "vocab_size": 40, "context_length": 16, "no_causal_mask": True,
                 "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
                 "hf_tokenizer_name": "org/name", "tokenizer_kwargs": {"clean": "canonicalize"}},
}  # fmt: skip
NATIVE = {  # open_clip's own image tower, which timm converts
    "embed_dim": 24,
    "vision_cfg": {"layers": 10, "width": 256, "head_width": 64, "patch_size": 16,
                   "image_size": 224},
    "text_cfg": TEXT,
}  # fmt: skip


class _Saved:
    """A tokenizer that comes with the package has nothing to save."""

    def save_pretrained(self, folder: Path) -> None: ...


def saved(folder: Path, config: dict) -> tuple[torch.nn.Module, Path]:
    """Return a model of open_clip with random weights, and its image tower's weights for timm."""
    from open_clip.push_to_hf_hub import save_for_hf

    torch.manual_seed(1)
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    model = kind(**{k: v for k, v in config.items() if k != "custom_text"}).eval()
    for parameter in model.visual.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    open_clip.model.set_model_preprocess_cfg(model, {"mean": (0.5,) * 3, "std": (0.5,) * 3})
    save_for_hf(model, _Saved(), config, folder, safe_serialization=True)
    if config["text_cfg"].get("hf_tokenizer_name"):
        _write_tokenizer(folder)
    state = model.state_dict()
    trunk = {n.removeprefix("visual.trunk."): t for n, t in state.items() if "trunk" in n}
    if not trunk:
        import timm
        from timm.models.vision_transformer import checkpoint_filter_fn

        trunk = checkpoint_filter_fn(state, timm.create_model("vit_xsmall_patch16_clip_224"))
    trunk.setdefault("head.weight", torch.zeros(1000, trunk["norm.weight"].numel()))
    trunk.setdefault("head.bias", torch.zeros(1000))
    save_file({n: t.contiguous() for n, t in trunk.items()}, folder / "image.safetensors")
    return model, folder / "image.safetensors"


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = {
        letter: n for n, letter in enumerate(("<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"))
    }
    made = Tokenizer(models.WordLevel(letters, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    made.save(str(folder / "tokenizer.json"))
    config = {"pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>",
              "tokenizer_class": "PreTrainedTokenizerFast"}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """3 classes of 8 photos."""
    made = write_photos(tmp_path_factory.mktemp("data") / "few", each=8)
    for old, new in zip(sorted(made.iterdir()), NAMES, strict=True):
        old.rename(made / new)
    return made


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "saved"
    saved(folder, CLIP)
    return folder


def tokens_of(folder: Path, config: dict):
    if not config["text_cfg"].get("hf_tokenizer_name"):
        return open_clip.SimpleTokenizer(context_length=77)
    from zoo.models.text_tower import tokens

    files = [folder / "tokenizer.json", folder / "tokenizer_config.json"]
    return tokens(16, files, "canonicalize")


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (CLIP, "timm/test_vit"),
        (SIGLIP, "timm/test_vit"),
        pytest.param(NATIVE, "timm/vit_xsmall_patch16_clip_224", marks=pytest.mark.slow),
    ],
    ids=["clip", "siglip", "native"],
)
def test_rows_and_scores_are_those_of_open_clip(tmp_path, few, config, name):
    folder = tmp_path / "saved"
    theirs, image = saved(folder, config)
    prepared = prepare(settings(name, few, weights=str(image), text=str(folder), views=1))
    classes = prepared.plan.index.classes
    text_rows.check_same(prepared.tower, prepared.network().chain, name)
    project, texts = text_rows.rows(str(folder), classes)
    prompts = [
        f(one.replace("_", " ")) for one in classes for f in open_clip.SIMPLE_IMAGENET_TEMPLATES
    ]
    size = prepared.plan.preprocess.size
    x = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        rows = theirs.encode_text(tokens_of(folder, config)(prompts), normalize=True)
        rows = torch.nn.functional.normalize(rows.unflatten(0, (3, -1)).mean(dim=1), dim=-1)
        scale = theirs.logit_scale.exp()
        wanted = scale * theirs.encode_image(x, normalize=True) @ rows.T
        wanted = wanted if theirs.logit_bias is None else wanted + theirs.logit_bias
        features = prepared.parts(prepared.plan.cut).frozen(x).numpy()
    assert np.allclose(texts.weight, (scale * rows).numpy(), atol=1e-4)
    found = Joint(project, Cosine(texts.weight, texts.bias)).scores(features)
    assert np.allclose(found, wanted.numpy(), atol=1e-4)
    assert np.std(wanted.numpy()) > 1e-3


def test_a_tokenizer_of_a_file_counts_as_open_clip_does(tmp_path):
    pytest.importorskip("transformers")
    _write_tokenizer(tmp_path)
    theirs = open_clip.tokenizer.HFTokenizer(str(tmp_path), 16, clean="canonicalize")
    texts = ["A photo, of a T-Shirt.", "", "a" * 40]
    assert torch.equal(tokens_of(tmp_path, SIGLIP)(texts), theirs(texts))


def test_a_text_head_goes_from_photos_to_a_file_that_predicts(tmp_path, few, here, clip):
    run, file = tmp_path / "run", tmp_path / "run.onnx"
    words = ("--weights", clip / "image.safetensors", "--text", clip, "--views", "1", "-o", run)
    said = here("finetune", "timm/test_vit", few, *words)
    assert said.code == 0, said.err
    assert "class names" in said.err
    record = Run.open(run).record
    assert record["head"] == "text"
    assert record["text"]["from"] == str(clip)
    assert 0 <= record["text"]["share"] <= 1
    assert here("export", "onnx", run, "-o", file).code == 0
    ours, theirs = (csv_rows(here("predict", one, few).out) for one in (run, file))
    assert [row["label"] for row in ours] == [row["label"] for row in theirs]
    assert here("evaluate", run, "--data", few).code == 0
    assert "of the head is class names" in here("info", run).out
    more = here("add-class", run, f"wasps={few / 'ants'}", "-o", tmp_path / "more")
    assert more.code == 2
    assert "the names of its classes" in more.err
    again = here("finetune", "--recipe", run / "recipe.toml", "--dry-run")
    assert again.code == 0, again.err
    assert f"texts of {clip}" in again.err
    assert here("report", run, "-o", tmp_path / "page.html").code == 0
    head = classifier_of_run(Run.open(run)).ref.head
    assert isinstance(head, Joint)
    chain = network.of_run(Run.open(run)).chain.eval()
    features = torch.randn(4, 64)
    with torch.inference_mode():
        scores = chain.head(features).numpy()
    assert np.allclose(scores, head.scores(features.numpy()), atol=1e-4)


@pytest.mark.slow
def test_a_text_head_is_resumed(tmp_path, few, clip):
    """From a folder beside, named by where the weights are; the recipe says which that is."""
    chosen = settings(
        "timm/test_vit", few, weights=str(clip / "image.safetensors"), text=str(clip), views=1
    )
    with pytest.raises(Interrupted):
        tune(tmp_path / "run", chosen, Watcher("features", 3))
    run = Run.open(tmp_path / "run")
    assert begin.recipe_of(run).text == str(clip)
    carried_out(begin.resume(prepare(begin.recipe_of(run)), run, Watcher()))
    tune(tmp_path / "whole", chosen)
    files = (tmp_path / name / "model.safetensors" for name in ("run", "whole"))
    assert len({sha256(file) for file in files}) == 1


@pytest.mark.parametrize("truth", ["texts", "photos"])
def test_the_val_photos_choose_the_share(truth):
    random = np.random.default_rng(0)
    val = unit(random.standard_normal((60, 8)).astype(np.float32))
    right, wrong = (random.standard_normal((3, 8)).astype(np.float32) * 9 for _ in "ab")
    labels = (val @ right.T).argmax(axis=1)
    texts, solved = (right, wrong) if truth == "texts" else (wrong, right)
    zero = np.zeros(3, np.float32)
    rows, share = blend(Linear(texts, zero), Linear(solved, zero), val, labels)
    assert share > 0.8 if truth == "texts" else share < 0.2
    assert np.allclose(rows.weight, share * texts + (1 - share) * solved, atol=1e-5)
    assert (rows.scores(val).argmax(axis=1) == labels).mean() > 0.9


def edited(clip: Path, folder: Path, **text: object) -> Path:
    shutil.copytree(clip, folder)
    path = folder / "open_clip_config.json"
    said = json.loads(path.read_text())
    for name, value in text.items():
        part = said["model_cfg"] if name in said["model_cfg"] else said["model_cfg"]["text_cfg"]
        part[name] = value
    path.write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ({"hf_model_name": "roberta-base"}, "hf_model_name"),
        ({"layers": 10**9}, "layers"),
        ({"width": 64}, "no text tower as"),
        ({"layers": 3}, "no text tower as"),
        ({"embed_dim": 48}, "says 48"),
        ({"embed_dim": True}, "embed_dim"),
        ({"tokenizer_kwargs": {"trust_remote_code": True}}, "trust_remote_code"),
        ({"act_kwargs": {"x": [1]}}, "act_kwargs"),
    ],
)
def test_a_config_that_is_not_understood_is_refused(tmp_path, few, clip, text, said):
    folder = edited(clip, tmp_path / "other", **text)
    recipe = settings(
        "timm/test_vit", few, weights=str(clip / "image.safetensors"), text=str(folder)
    )
    with pytest.raises(WeightsError, match=said):
        prepare(recipe)


def test_texts_of_another_image_tower_are_refused(tmp_path, few, here, clip):
    said = here("finetune", "timm/test_vit", few, "--weights", "none", "--text", clip, "-o",
                tmp_path / "run")  # fmt: skip
    assert said.code == 2
    assert "another image tower" in said.err
    said = here("finetune", "timm/test_convnext", few, "--weights", "none", "--text", clip,
                "--views", "1", "-o", tmp_path / "two")  # fmt: skip
    assert said.code == 2
    assert "another image tower" in said.err
    said = here("finetune", "timm/test_vit", few, "--weights", "none", "--head", "text")
    assert said.code == 2
    assert "--text FOLDER" in said.err
    said = here("finetune", "timm/test_vit", few, "--head", "knn:5", "--text", clip)
    assert said.code == 2
    said = here("finetune", "timm/test_vit", few, "--weights", "none", "--text", tmp_path)
    assert said.code == 2
    assert "open_clip_config.json" in said.err


@pytest.mark.slow
def test_the_text_tower_lies_beside_the_weights_unless_it_is_named(tmp_path, few, clip):
    """A repository of timm's holds both, under the tag's name."""

    recipe = settings("timm/vit_base_patch16_clip_224", few)
    prepared = prepare(
        settings("timm/test_vit", few, weights=str(clip / "image.safetensors"), text=str(clip))
    )
    facts = prepared.plan.facts

    row = models.resolve("timm/vit_base_patch16_clip_224")
    tag = "laion2b"
    place = text_rows._beside(recipe, replace(facts, row=row, origin={"tag": tag}))
    assert place == "hf-hub:timm/vit_base_patch16_clip_224.laion2b"
    with pytest.raises(UsageError, match="with QuickGELU, and timm/vit_base_patch16_clip_224 is"):
        text_rows._check_activation(row.name, replace(prepared.tower, quick_gelu=True))
    text_rows._check_activation(row.name, prepared.tower)
