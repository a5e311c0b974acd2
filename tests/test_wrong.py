"""What a hasty hand types, and the hint that it gets: each a command, what is said of it, and
what to do. Nothing is computed and nothing is written.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from kit import Answer, picture, write_photos

from zoo.errors import RunError
from zoo.finetune.place import check_apart

Here = Callable[..., Answer]

# Of a folder with photos/CLASS/*.png, a.png, the run `mob`, `empty`, and out.csv, a.png there.
TABLE = [
    # The wrong order, in every command that takes two kinds of thing.
    ("predict photos mob", "photos is a folder of photos, and mob is a run",
     "`zoo predict mob photos`"),
    ("predict photos mob --top 3 -o x.csv", "the network comes first",
     "`zoo predict mob photos --top 3 -o x.csv`"),
    ("predict a.png mob", "a.png is a photo", "`zoo predict mob a.png`"),
    ("predict a.png b.png mob", "the network comes first", "`zoo predict mob a.png b.png`"),
    ("predict photos resnet50", "resnet50 is a network", "`zoo predict resnet50 photos`"),
    ("predict photos net.onnx", "net.onnx is an exported network", "`zoo predict net.onnx photos`"),
    ("embed photos mob", "the network comes first", "`zoo embed mob photos`"),
    ("next photos mob", "the network comes first", "`zoo next mob photos`"),
    ("explain photos mob", "the network comes first", "`zoo explain mob photos`"),
    ("reconstruct photos mob", "the network comes first", "`zoo reconstruct mob photos`"),
    ("finetune photos resnet50 --epochs 3", "the network comes first",
     "`zoo finetune resnet50 photos --epochs 3`"),
    ("train photos lenet", "the network comes first", "`zoo train lenet photos`"),
    ("lr photos timm/resnet50", "the network comes first", "`zoo lr timm/resnet50 photos`"),
    ("sweep photos lenet lr=1,2 -o x", "the network comes first",
     "`zoo sweep lenet photos lr=1,2 -o x`"),
    ("distill photos mob --student lenet", "mob is a run",
     "`zoo distill mob photos --student lenet`"),
    ("add-class disc=photos/disc mob", "a class and its photos",
     "`zoo add-class mob disc=photos/disc`"),
    ("evaluate mob photos", "photos is a folder of photos", "`zoo evaluate mob --data photos`"),
    ("evaluate photos mob", "photos is a folder of photos", "`zoo evaluate mob --data photos`"),
    ("compare mob photos", "photos is a folder of photos", "`zoo compare` takes runs"),
    ("rank resnet50 photos", "extra argument", "`zoo rank photos --models resnet50`"),
    ("check mob photos", "extra argument", "`zoo check photos --model mob`"),
    ("predict mob mob photos", "mob is a run, where photos belong", "`zoo evaluate mob mob`"),
    ("finetune photos", "a network comes first", "`zoo finetune MODEL photos`"),
    # A glob that the shell has written out.
    ("finetune lenet photos/disc photos/stripes", "extra argument",
     "name the folder instead: photos"),
    ("list resnet.txt resnet50.txt", "extra argument", "`zoo list 'resnet*'`"),
    # Commands and nouns.
    ("models", "no such command 'models'", "`zoo list` does that here"),
    ("model", "no such command 'model'", "`zoo list` does that here"),
    ("run", "no such command 'run'", "`zoo runs` does that here"),
    ("recipe", "no such command 'recipe'", "`zoo recipes` does that here"),
    ("weight", "no such command 'weight'", "`zoo weights` does that here"),
    ("weights rm x", "no such command 'rm'", "`zoo weights remove` does that here"),
    ("fit resnet50 photos", "no such command 'fit'", "`zoo finetune` does that here"),
    ("val mob", "no such command 'val'", "`zoo evaluate` does that here"),
    ("finetun resnet50", "no such command 'finetun'", "did you mean finetune?"),
    ("mob", "no such command 'mob'", "`zoo info mob`"),
    ("photos", "no such command 'photos'", "`zoo check photos`"),
    ("export gone", "neither a run folder nor a format", "`zoo export RUN` writes ONNX"),
    ("export tflite mob", "neither a run folder nor a format", "formats: ", "openvino"),
    ("export all mob", "neither a run folder nor a format", "`zoo export --all RUN`"),
    ("export openvino a.svg", "a.svg is a file, and no run", "the run folder that it came"),
    ("push org/name mob", "mob is one: the run comes first", "`zoo push mob org/name`"),
    ("push mob hf-hub:org/name", "is no repository", "as org/name"),
    ("push mob https://huggingface.co/org/name", "is no repository", "as org/name"),
    ("push mob org/name --private", "no such option: --private", "private unless you say"),
    ("push mob org/name --token hf_1", "no such option: --token", "HF_TOKEN"),
    ("pull hf:org/name", "no model called 'hf:org/name'", "`zoo pull hf-hub:org/name`"),
    ("pull org/name", "no model called 'org/name'", "`zoo pull hf-hub:org/name`"),
    ("pull https://huggingface.co/org/name", "no model called", "`zoo pull hf-hub:org/name`"),
    ("pull lenet/mnits", "no weights 'mnits'", "mnist"),
    ("cache prune", "extra argument", "`zoo cache --prune --older 30d`"),
    ("cache clear", "extra argument", "`zoo cache --clear`"),
    ("cache --clear features", "extra argument", "`zoo cache --clear --kind features`"),
    ("cache list", "extra argument", "`zoo cache`"),
    ("config cache_budget 5GB", "no such command", "`zoo config set cache_budget VALUE`"),
    ("config set cache_budget=5GB", "missing argument", "`zoo config set cache_budget 5GB`"),
    ("finetune photos auto", "the network comes first", "`zoo finetune auto photos`"),
    ("serve mob -p 80", "no such option: -p", "--port says that here"),
    ("estimate job --nodes 4", "no such option: --nodes", "--workers says that here"),
    ("export onnx mob --half", "no such option: --half", "--fp16 says that here"),
    ("export onnx mob --dynamic", "no such option: --dynamic", "pictures of any size"),
    # Words of one value that stand apart, and what is no run yet.
    ("rank photos --models lenet resnet50", "extra argument",
     "no blanks between the models: `zoo rank photos --models lenet,resnet50`"),
    ("rank photos --models lenet, resnet50, vgg16", "extra argument",
     "`zoo rank photos --models lenet,resnet50,vgg16`"),
    ("add-class mob disc photos/disc -o x", "extra argument",
     "`zoo add-class mob disc=photos/disc -o x`"),
    ("export mob onnx", "extra argument", "`zoo export onnx mob`"),
    ("demo photos", "extra argument", "`zoo demo --photos photos`"),
    ("export onnx photos", "photos is a folder of photos, and no run",
     "`zoo finetune MODEL photos` makes one"),
    ("report photos/disc", "is a folder of photos, and no run", "`zoo runs` lists"),
    ("export onnx resnet50 -o x.onnx", "resnet50 is a network, and no run yet",
     "`zoo finetune resnet50 PHOTOS -o RUN`, then `zoo export onnx RUN -o x.onnx`"),
    ("predict shelf photos", "shelf is not a run folder", "runs are in it: shelf/mob"),
    ("info photos", "neither a run nor a model", "`zoo check photos`"),
    ("finetune lenet photos --lr 0,01", "'0,01' is not a number", "with a point: 0.01"),
    ("finetune lenet photos --lr fast", "'fast' is not a number", "--lr: Peak learning rate"),
    ("finetune lenet photos --epochs 1,5", "'1,5' is not a whole number", "--epochs: "),
    ("predict mob photos -o answers", "it has no suffix", ".csv, .jsonl, .parquet, as in answers"),
    ("list mobilnet", "no model is like 'mobilnet'; did you mean mobilenet", "a part of a name"),
    # Names.
    ("finetune resnet5O photos", "no model called 'resnet5O'", "did you mean resnet50"),
    ("predict mobilnetv2_100 photos", "no model called", "did you mean mobilenetv2_100"),
    ("bench NOWHERE", "no model called 'NOWHERE'", "`zoo runs` finds runs", "!did you mean"),
    ("bench runs/gone", "no model called 'runs/gone'", "name a run folder"),
    ("finetune mob photos", "no model called 'mob'", "--weights mob"),
    ("finetune lenet photos --weights none --cut conv9", "no stage 'conv9'", "conv1, act1"),
    ("finetune lenet photos --weights none --cut fc", "no stage 'fc'", "leave --cut out"),
    ("finetune resnet50 photos --weights imagenet", "no weights 'imagenet'", "imagenet1k_v2"),
    ("train --recipe lenet-mnits", "no recipe at lenet-mnits", "did you mean lenet-mnist"),
    ("recipes lenet", "no recipe lenet", "did you mean lenet-mnist?"),
    ("train lenet mnits", "mnits does not exist", "did you mean mnist?"),
    ("finetune --resume gone", "gone is not a run folder", "`zoo runs` lists"),
    # Values.
    ("predict mob photos --engine onnx", "--engine onnx", "did you mean onnxruntime?"),
    ("predict mob photos --precision fp16", "--precision fp16", "did you mean bf16?"),
    ("finetune lenet photos --precision fp16", "precision = 'fp16'", "did you mean bf16?"),
    ("finetune lenet photos --loss focal", "loss = 'focal'", "did you mean cross_entropy?"),
    ("finetune lenet photos --schedule step", "schedule = 'step'", "did you mean exponential?"),
    ("finetune lenet photos --device 0", "device = '0'", "did you mean cuda:0?"),
    ("finetune lenet photos --device gpu", "device = 'gpu'", "did you mean cuda?"),
    ("bench lenet --device gpu", "--device gpu", "did you mean cuda?"),
    ("finetune lenet photos --epochs 0", "epochs = 0", "--epochs: Passes over"),
    ("predict mob photos --top 0", "--top", "Classes in a row"),
    ("predict mob photos --top x", "'x' is not a whole number", "Classes in a row"),
    ("predict mob photos --coverage 95", "no share between 0 and 1", "--coverage 0.95"),
    ("predict mob photos --reject-below 80", "a probability is above 0", "--reject-below 0.8"),
    ("evaluate mob --part validation", "--part validation", "did you mean val?"),
    ("embed mob photos --map umap", "--map umap", "did you mean tsne?"),
    ("list --sort accuracy", "cannot sort by 'accuracy'", "did you mean acc1?"),
    ("cache --kind feature", "no such kind", "did you mean features?"),
    ("config set devise cpu", "no setting 'devise'", "did you mean device?"),
    # Places.
    ("finetune lenet gone", "gone does not exist", "photos/CLASS/*.jpg"),
    ("finetune lenet empty", "no class folders", "at least two class folders"),
    ("predict lenet empty", "no pictures in empty", "a folder with pictures"),
    ("predict lenet photos -o out.csv", "out.csv exists already", "--force"),
    ("info lenet --svg a.svg", "a.svg exists already", "--force"),
    ("explain lenet photos -o a.png", "a.png exists already", "--force"),
    ("predict lenet photos -o gone/x.csv", "there is no folder gone", "`mkdir -p gone`"),
    ("predict lenet photos -o x.xlsx", "names no format", ".csv, .jsonl, .parquet"),
    ("finetune lenet photos --weights none -o photos/runs/a", "inside the photos' folder",
     "-o runs/a"),
    ("finetune lenet photos --weights none -o link/a", "inside the photos' folder", "-o runs/a"),
    # What does not go together, or is missing.
    ("predict lenet", "missing argument", "`zoo predict MODEL INPUTS…`"),
    ("finetune lenet", "'data' is missing", "`zoo finetune MODEL PHOTOS`"),
    ("distill mob photos", "missing option '--student'", "DATA --student STUDENT"),
    ("predict lenet photos --json -o x.csv", "--json with -o", "-o FILE.jsonl"),
    ("finetune lenet photos --no-freeze --cut conv3", "a cut is where freezing ends", "leave one"),
    ("train lenet photos --cut conv3", "no such option: --cut", "a flag of `zoo finetune`"),
    ("predict lenet photos --topp 3", "no such option: --topp", "did you mean --top"),
    ("predict lenet photos --top", "requires an argument", "`zoo predict --help`"),
    ("cache --prune", "--prune without a limit", "--older 30d"),
    ("cache --clear", "--clear would remove", "--force"),
    ("pull", "no model given", "`zoo pull MODEL`"),
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, a run that no command opens, and files that are there."""
    folder = tmp_path_factory.mktemp("wrong")
    write_photos(folder / "photos", each=3)
    for name in ("mob", "empty"):
        (folder / name).mkdir()
    (folder / "mob" / "run.json").write_text("{}")
    shutil.copytree(folder / "mob", folder / "shelf" / "mob")
    for name in ("a.png", "b.png"):
        picture("disc", 0).save(folder / name)
    for name in ("out.csv", "a.svg", "resnet.txt", "resnet50.txt"):
        (folder / name).touch()
    (folder / "link").symlink_to(folder / "photos" / "disc")
    return folder


def everything(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_a_wrong_command_gets_the_hint_that_helps(
    row: tuple[str, ...], here: Here, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    before = everything(place)
    command, what, *hints = row
    answer = here(*shlex.split(command))
    *_, error, hint = answer.err.rstrip("\n").split("\n")
    assert (answer.code, answer.out) == (2, "")
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert what in error
    for part in hints:
        if part.startswith("!"):
            assert part[1:] not in answer.err
        elif part.startswith("did you mean"):
            assert part in answer.err
        else:
            assert part in hint
    assert everything(place) == before


@pytest.mark.parametrize(
    ("flag", "command", "ours"),
    [
        ("--wd", "finetune", "--weight-decay"), ("--imgsz", "finetune", "--size"),
        ("--img-size", "train", "--size"), ("--img_size", "finetune", "--size"),
        ("--imgsz", "predict", "a run has its size"), ("--threshold", "predict", "--reject-below"),
        ("--conf", "predict", "--reject-below"), ("--topk", "predict", "--top"),
        ("--pretrained", "finetune", "--weights none"), ("--name", "finetune", "--output"),
        ("--project", "train", "--output"), ("-b", "finetune", "--batch-size"),
        ("--batch", "predict", "finds the batch size by itself"), ("-e", "train", "--epochs"),
        ("-j", "finetune", "--workers"), ("--workers", "predict", "OMP_NUM_THREADS"),
        ("--gpu", "finetune", "--device cuda"), ("--cpu", "predict", "--device cpu"),
        ("--mps", "bench", "--device mps"), ("--amp", "finetune", "--precision bf16"),
        ("--half", "predict", "--precision bf16"), ("--random-state", "finetune", "--seed"),
        ("--seed", "predict", "a flag of `zoo finetune`"), ("--overwrite", "predict", "--force"),
        ("--exist-ok", "rank", "--force"), ("--optimiser", "finetune", "--solver"),
        ("--out-dir", "embed", "--output"), ("--val-split", "finetune", "--val-fraction"),
        ("--model", "finetune", "first word"), ("--data", "predict", "a word of the command"),
        ("--format", "predict", "suffix of -o"), ("--verbose", "predict", "stderr"),
    ],
)  # fmt: skip
def test_a_flag_of_another_tool_is_answered_in_ours(
    here: Here, flag: str, command: str, ours: str
) -> None:
    answer = here(command, "a", "b", flag, "1")
    assert answer.code == 2
    assert f"no such option: {flag}" in answer.err
    assert ours in answer.err


def test_force_overwrites_and_says_nothing_of_it(
    here: Here, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.svg").write_text("mine")
    for flag in ("-f", "--force"):
        (tmp_path / "net.svg").write_text("mine")
        assert here("info", "lenet", "--svg", "net.svg", flag).code == 0
        assert "<svg" in (tmp_path / "net.svg").read_text()


def test_a_run_in_the_folder_of_photos_is_refused_wherever_it_is_typed(
    here: Here, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place / "photos")  # runs/ would be made here
    answer = here("finetune", "lenet", ".", "--weights", "none", "--dry-run")
    assert answer.code == 2
    assert "inside the photos' folder ." in answer.err
    assert "-o ../runs/lenet-photos" in answer.err
    with pytest.raises(RunError, match="are inside the run folder"):
        check_apart(place, str(place / "photos"))
