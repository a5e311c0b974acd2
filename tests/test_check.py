"""zoo check: faults that are planted in real files are found, and what is not wrong is not."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import Here, csv_rows, names, waves, write_photos
from kit.browser import browser_page
from kit.data import tree, write_idx, write_parquet
from PIL import Image, ImageOps

from zoo import catalog, models, weights
from zoo.check import drift, labels
from zoo.check.near import near_pairs
from zoo.data.samples import DatasetIndex, Sample
from zoo.disk import cache_folder

EVIL = "<script>document.title='owned'</script>"


def scene(number: int, width: int = 120, height: int = 90) -> Image.Image:
    """Return a picture of blots that is like no other."""
    random = np.random.default_rng(number)
    small = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def folder(root: Path, each: int = 12) -> Path:
    """Write train and val of two classes, scenes that all differ."""
    number = 0
    for part, many in (("train", each), ("val", 4)):
        for name in ("ant", "bee"):
            (root / part / name).mkdir(parents=True)
            for _ in range(many):
                scene(number := number + 1).save(root / part / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("clean") / "photos")


def checked(here: Here, *words: object, code: int = 0) -> dict:
    """Return what a check says, by the word of each finding."""
    answer = here("check", *words, "--json")
    assert answer.code == code, answer.err
    record = json.loads(answer.out)
    record["found"] = {each["check"]: each for each in record["findings"]}
    return record


def paths(finding: dict) -> set[str]:
    return {path for example in finding["examples"] for path in example["paths"]}


def test_photos_without_a_fault_have_no_finding_and_are_not_touched(here, clean):
    before = tree(clean)
    record = checked(here, clean, "--strict")
    assert set(record["found"]) <= {"tiny"}  # they are smaller than a network's input
    assert record["parts"] == {"train": 24, "val": 8}
    assert "--model" in record["unchecked"][0]
    assert tree(clean) == before


@pytest.fixture(scope="module")
def faulty(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a fault of each kind that takes no network to find."""
    root = tmp_path_factory.mktemp("faulty") / "photos"
    shutil.copytree(clean, root)
    ant, bee = root / "train/ant", root / "train/bee"
    shutil.copy(ant / "1.png", root / "val/ant/copy.png")  # a leak
    shutil.copy(ant / "2.png", bee / "torn.png")  # two labels
    Image.open(ant / "3.png").save(root / "val/ant/again.jpg", quality=60)
    ImageOps.mirror(Image.open(ant / "4.png")).save(ant / "mirror.png")
    scene(5, 120, 90).crop((3, 2, 117, 87)).save(ant / "crop.png")  # of ant/5.png
    (bee / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    scene(80).save(ant / "really.png", "JPEG")
    scene(81, 400, 60).save(bee / "long.png")
    scene(82).convert("L").save(bee / "grey.png")
    (ant / "notes.txt").write_text("none")
    return root


def test_every_planted_fault_is_found_by_name(here, faulty):
    record = checked(here, faulty, "--strict", code=2)
    found = record["found"]
    assert paths(found["leak_exact"]) == {"train/ant/1.png", "val/ant/copy.png"}
    assert paths(found["leak_near"]) == {"train/ant/3.png", "val/ant/again.jpg"}
    assert paths(found["copies_exact"]) == {"train/ant/2.png", "train/bee/torn.png"}
    ants = {"train/ant/4.png", "train/ant/mirror.png", "train/ant/5.png", "train/ant/crop.png"}
    assert paths(found["copies_near"]) == ants
    assert paths(found["two_labels"]) == {"train/ant/2.png", "train/bee/torn.png"}
    assert paths(found["unreadable"]) == {"train/bee/broken.jpg"}
    assert paths(found["misnamed"]) == {"train/ant/really.png"}
    assert paths(found["long"]) == paths(found["cut"]) == {"train/bee/long.png"}
    assert paths(found["colours"]) == {"train/bee/grey.png"}
    assert "train/ant/notes.txt" in paths(found["passed_over"])
    serious = {name for name, each in found.items() if each["severity"] == "serious"}
    assert serious == {"leak_exact", "leak_near", "two_labels"}
    assert record["counts"]["serious"] == 3


def test_the_text_fits_80_columns_and_says_what_to_do(here, faulty, tmp_path):
    answer = here("check", faulty, "-o", tmp_path / "all.csv")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert max(map(len, lines)) < 80
    assert lines[0] == "SERIOUS"
    assert sum("-> " in line for line in lines) >= 9
    assert "3 serious findings" in answer.err
    rows = csv_rows(tmp_path / "all.csv")
    leak = next(row for row in rows if row["check"] == "leak_exact")
    assert {leak["path"], leak["other"]} == {"train/ant/1.png", "val/ant/copy.png"}
    assert leak["severity"] == "serious"


@pytest.mark.parametrize("columns", [40, 60])
def test_the_text_fits_a_narrow_screen_and_a_name_stays_on_its_line(
    here, tmp_path, monkeypatch, columns
):
    monkeypatch.setenv("COLUMNS", str(columns))
    photos = folder(tmp_path / "photos", 2)
    shutil.copy(photos / "train/ant/1.png", photos / "val/ant/a\nline of its own.png")
    answer = here("check", photos)
    lines = answer.out.splitlines()
    assert max(map(len, lines)) <= columns
    assert not [line for line in lines if line.startswith("line of")]
    assert any(r"val/ant/a\nline" in line for line in lines)


# Near duplicates.


def test_pictures_that_only_share_their_light_are_not_the_same():
    greys = np.stack([np.asarray(scene(n, 64, 64).convert("L")) for n in range(40)])
    flat = np.full((2, 64, 64), 128, np.uint8)
    assert near_pairs(np.concatenate([greys, flat])) == []
    assert near_pairs(greys[:1]) == []


@pytest.mark.parametrize("turned", [False, True])
def test_a_small_crop_is_the_same_picture_mirrored_or_not(turned):
    originals = [scene(n, 640, 480) for n in range(20)]
    copies = [each.crop((0, 10, 608, 466)) for each in originals[:5]]
    copies = [ImageOps.mirror(each) if turned else each for each in copies]
    pictures = [each.convert("L").resize((64, 64)) for each in [*originals, *copies]]
    found = near_pairs(np.stack([np.asarray(each) for each in pictures]))
    assert {(i, j) for i, j, _ in found} == {(n, 20 + n) for n in range(5)}


def test_pictures_of_few_pixels_either_way_are_not_compared(here, clean, tmp_path):
    """Digits and letters that differ are alike."""
    data = shutil.copytree(clean, tmp_path / "photos")
    for height in (32, 33):
        for suffix in ("bmp", "png", "tif"):
            scene(height + 100, 120, height).save(data / "train" / "ant" / f"{height}.{suffix}")
    found = checked(here, data)["found"]["copies_near"]
    assert paths(found) == {f"train/ant/33.{suffix}" for suffix in ("bmp", "png", "tif")}
    assert len(found["examples"]) == 2, "of three copies two are too many"


def test_pairs_come_the_closest_first():
    one, other = scene(0, 640, 480), scene(1, 640, 480)
    pictures = [one, one.crop((0, 10, 608, 466)), other, other]
    pictures = [each.convert("L").resize((64, 64)) for each in pictures]
    found = near_pairs(np.stack([np.asarray(each) for each in pictures]))
    assert [(i, j) for i, j, _ in found] == [(2, 3), (0, 1)]


# Names, balance, groups.


@pytest.mark.parametrize(
    ("counts", "said"),
    [((100, 10), set()), ((101, 10), {"uneven"}), ((90, 9), {"scarce"}),
     ((91, 9), {"uneven", "scarce"})],
)  # fmt: skip
def test_classes_are_uneven_and_scarce_from_a_number_on(counts, said):
    samples = [
        Sample(f"{label}-{n}.png", label, "train")
        for label, many in enumerate(counts)
        for n in range(many)
    ]
    index = DatasetIndex(Path(), ("ant", "bee"), tuple(samples))
    assert {each.check for each in labels.of_balance(index) if each} == said


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [("Cat", "cat", "case"), ("fox", "foxes", "many"), ("berry", "berries", "many"),
     ("red-fox", "red_fox", "drawn"), ("cаt", "cat", "drawn"), ("sparrow", "sparow", "letter"),
     ("sparrow", "psarrow", "letter")],
)  # fmt: skip
def test_names_that_are_probably_one_class_are_found(one, other, why):
    found = labels.of_names(["bird", one, other])
    assert found is not None
    (example,) = found.examples
    assert why in example.said


def test_names_that_are_different_words_or_numbers_are_not():
    some = ["shirt", "t-shirt", "skirt", "class 1", "class 2", "glass", "glas", "hat", "cat", "bus"]
    assert labels.of_names(some) is None


def test_groups_on_both_sides_are_named_and_patterns_must_match(here, clean):
    record = checked(here, clean, "--group", r"/(\d)\d*\.png")
    assert record["found"]["leak_groups"]["severity"] == "serious"
    assert checked(here, clean, "--group", r"(ant|bee)/\d+")["found"]["leak_groups"]
    for bad, said in (("(", "--group ("), ("patient", "matches no path")):
        answer = here("check", clean, "--group", bad)
        assert answer.code == 2
        assert said in answer.err


def test_a_drawn_split_tears_no_copies_apart_but_near_ones(here, tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for n in range(10):
            image = scene(n + 50 * (name == "bee"))
            image.save(tmp_path / name / f"{n}.png")
            image.save(tmp_path / name / f"{n}.jpg")
        shutil.copy(tmp_path / name / "0.png", tmp_path / name / "copy.png")
    found = checked(here, tmp_path)["found"]
    assert found["copies_exact"]["severity"] == "note"
    assert found["leak_near"]["severity"] == "warning"
    assert "leak_exact" not in found


# All ways of giving photos.


def test_data_that_training_refuses_are_checked_all_the_same(here, tmp_path):
    for name in ("cat", "Cat"):
        write_photos(tmp_path / "kinds", each=3)
        shutil.copytree(tmp_path / "kinds/disc", tmp_path / "photos" / name)
        shutil.rmtree(tmp_path / "kinds")
    found = checked(here, tmp_path / "photos")["found"]
    assert "upper and lower case" in found["refused"]["what"]
    assert found["names"]
    assert len(found["two_labels"]["examples"]) == 3
    alone = checked(here, tmp_path / "photos/cat")
    assert alone["classes"] == []
    assert alone["found"]["unlabelled"]


def test_containers_and_manifests_are_checked_as_folders_are(here, faulty, tmp_path):
    idx = checked(here, write_idx(tmp_path / "digits", "train", 12))
    assert idx["photos"] == 12
    assert not {"copies_near", "leak_near"} & set(idx["found"])  # too small to tell apart
    cells = []
    for n in range(6):
        file = io.BytesIO()
        scene(n % 5).save(file, "PNG")
        cells.append(file.getvalue())
    packed = write_parquet(tmp_path / "p" / "train.parquet", cells, ["a", "b"] * 3)
    found = checked(here, packed.parent)["found"]
    assert paths(found["two_labels"]) == {"train.parquet#0", "train.parquet#5"}
    lines = "".join(f"{p},{p.parent.name},{p.parts[-3]}\n" for p in sorted(faulty.rglob("*.png")))
    (tmp_path / "photos.csv").write_text("path,label,split\n" + lines)
    record = checked(here, tmp_path / "photos.csv")
    assert len(record["found"]["leak_exact"]["examples"]) == 1


def test_several_labels_a_photo_are_no_reason_to_stop(here, clean, tmp_path):
    lines = "".join(f"{p},{'a|b' if n % 2 else 'a'}\n" for n, p in enumerate(clean.rglob("*.png")))
    (tmp_path / "several.csv").write_text("path,label\n" + lines)
    assert "several labels" in checked(here, tmp_path / "several.csv")["unchecked"][0]


def test_what_is_asked_wrongly_is_said_in_two_lines(here, clean, tmp_path):
    for words in (
        (tmp_path / "nothing",),
        (clean, "--against", tmp_path / "nothing"),
        (clean, "--weights", "x.pth"),
        (clean, "--model", "resnet5"),
        (clean, "--html", tmp_path / "page.txt"),
        (clean, "--html", clean / "train" / "page.html"),
        (clean, "-o", clean / "all.csv"),
    ):
        answer = here("check", *words)
        assert answer.code == 2, words
        assert answer.err.count("\n") == 2, answer.err


# With features.


def test_wrong_labels_are_told_by_the_features_of_a_network(here, run, tmp_path):
    photos = write_photos(tmp_path / "photos", each=20)
    wrong = [photos / "square/disc.png", photos / "stripes/disc.png", photos / "disc/square.png"]
    for place, name in zip(wrong, ("disc/02", "disc/07", "square/05"), strict=True):
        (photos / f"{name}.png").rename(place)
    record = checked(here, photos, "--model", run)
    doubtful = [example["paths"][0] for example in record["found"]["suspicious"]["examples"]]
    assert len({str(path.relative_to(photos)) for path in wrong} & set(doubtful[:6])) >= 2
    assert record["unchecked"] == []
    kept = checked(here, photos)  # now that they are in the cache no network is named
    assert kept["network"].startswith("lenet")
    assert kept["found"]["suspicious"] == record["found"]["suspicious"]
    for number in range(7):  # of 67 photos 60 are known: fewer than 0.9
        scene(200 + number).save(photos / "disc" / f"new-{number}.png")
    assert checked(here, photos)["network"] == ""
    # What a network for digits sees is not taken where another's features are there, older too.
    kept_in = (cache_folder() / "features").glob("*/about.json")
    about = max(kept_in, key=lambda path: path.parent.stat().st_mtime)
    larger = Path(shutil.copytree(about.parent, about.parent.with_name("larger")))
    told = json.loads(about.read_text())
    told |= {"model": "larger", "preprocess": told["preprocess"] | {"size": 96}}
    (larger / "about.json").write_text(json.dumps(told))
    os.utime(larger, (0, 0))
    (photos / "disc" / "new-0.png").unlink()  # of 66 photos 60 are more than 0.9
    try:
        assert checked(here, photos)["network"].startswith("larger")
    finally:
        shutil.rmtree(larger)


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir()
    for number in range(30):
        waves(60, 50, number).save(tmp_path / "other" / f"{number}.png")
    return tmp_path / "other"


def test_new_photos_are_compared_with_those_of_a_run(here, run, photos, strangers, tmp_path):
    mirrored = tmp_path / "mirrored"
    mirrored.mkdir()
    for number, file in enumerate(sorted(photos.rglob("*.png"))):
        ImageOps.mirror(Image.open(file)).save(mirrored / f"{number}.png")
    alike = checked(here, mirrored, "--against", run)["found"]["drift"]
    different = checked(here, strangers, "--against", run, "--strict", code=2)["found"]["drift"]
    assert alike["severity"] == "note", alike["what"]
    assert different["severity"] == "serious"
    assert len(paths(different)) == 20
    assert "30 and 36 photos" in alike["advice"], "those that the run learned from, not its val"


def test_without_a_network_light_and_colours_are_compared(here, clean, strangers):
    found = checked(here, strangers, "--against", clean)["found"]["drift"]
    assert found["severity"] == "serious"
    assert "size, light and colour" in found["advice"]
    same = checked(here, clean / "train", "--against", clean / "val")["found"]["drift"]
    assert same["severity"] == "note", same["what"]


def test_the_p_value_is_right_where_nothing_differs_and_small_where_something_does():
    random = np.random.default_rng(0)
    ps = [drift.drift(*np.split(random.normal(size=(40, 8)), [25])).p for _ in range(60)]
    assert 0.3 < np.mean(ps) < 0.7
    assert np.mean(np.array(ps) <= 0.1) <= 0.2
    found = drift.drift(random.normal(size=(60, 8)), random.normal(0.7, 1, (30, 8)))
    assert found.p == pytest.approx(1 / 1000), "the photos' own division is one of those"
    assert 0 < found.share < 1
    assert found == drift.drift(*(np.asarray(x) for x in _again()))


def _again() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    for _ in range(60):
        random.normal(size=(40, 8))
    return random.normal(size=(60, 8)), random.normal(0.7, 1, (30, 8))


# The page.


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_pairs_and_keeps_names_as_text(here, faulty, tmp_path, scheme):
    root = tmp_path / "photos"
    shutil.copytree(faulty, root)
    name = EVIL.replace("/", "\N{DIVISION SLASH}")
    os.rename(root / "val/ant/copy.png", root / "val/ant" / f"{name}.png")
    page = tmp_path / "check.html"
    assert here("check", root, "--html", page).code == 0
    assert names(tmp_path) == ["check.html", "photos"]
    with browser_page(page, scheme=scheme) as shown:
        assert shown.title().startswith("Check of")
        assert shown.get_by_text("broken.jpg").count() == 1
        assert shown.locator("nav a").count() == shown.locator("section").count()
        shown.locator("nav a").first.click()
        widths = shown.locator("section img").evaluate_all(
            "images => images.map(image => { image.loading = 'eager'; return image.src.length })"
        )
        assert len(widths) >= 10
        assert min(widths) > 100
        assert shown.get_by_text(name).count() >= 1


def test_features_that_are_not_finite_say_nothing_of_photos(here, photos, tmp_path):
    tensors = models.build(catalog.find("mlp")).state_dict()
    state = {name: torch.full_like(tensor, 3e38) for name, tensor in tensors.items()}
    weights.save(state, tmp_path / "x.safetensors")
    told = ("--model", "mlp", "--weights", tmp_path / "x.safetensors")
    assert "suspicious" not in checked(here, photos, *told)["found"]
