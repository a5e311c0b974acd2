"""Pages of runs: what is on them, that names stay text, and that they work in a browser."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
from collections import Counter

import pytest
from kit import CLASSES, Watcher, carried_out, picture, settings, write_photos
from kit.browser import browser_page, faint, keep, too_wide

from zoo.cli import main
from zoo.metrics import wilson
from zoo.report import sections
from zoo.report.answers import CLASSES as SHOWN
from zoo.report.answers import Answer, chosen, matrix
from zoo.report.page import _templates
from zoo.report.rank_page import Point, write
from zoo.report.svg import Axis, Chart
from zoo.run import Run

EVIL = "<script>document.title='owned'</script>"
EVIL_FILE = "<img src=x onerror=\"document.title='owned'\">.png"
FROZEN = ("--weights", "none", "--views", "1", "--cut", "act4")
WHOLE = ("--weights", "none", "--views", "1", "--no-freeze", "--epochs", "1")


def embedded(page):
    """The data that the page's script has."""
    text = page.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])


def outside(page):
    """What a page would fetch."""
    return re.findall(r'(?:src|href)="(?!data:|#)[^"]*"|@import|url\((?!data:)', page.read_text())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run whose class and file names are HTML, with mistakes: half of the labels are swapped."""
    root = tmp_path_factory.mktemp("hostile")
    lines = ["path,label,split"]
    for number in range(24):
        name = f"{number:02}{EVIL_FILE}"
        picture(CLASSES[number % 2], number // 2).save(root / name)
        label = EVIL if (number % 2 == 0) != (number % 5 == 0) else "<b>plain"
        cells = (name.replace('"', '""'), label, "val" if number < 12 else "train")
        lines.append(",".join(f'"{cell}"' for cell in cells))
    (root / "photos.csv").write_text("\n".join(lines) + "\n")
    words = ("finetune", "lenet", str(root / "photos.csv"), *FROZEN, "-o", str(root / "run"))
    assert main([*words]) == 0
    return root / "run"


def test_a_run_has_a_page_of_its_own(run):
    page = run / "report.html"
    text = page.read_text()
    results = Run.open(run).record["results"]
    assert f"{100 * results['accuracy']:.1f} %" in text
    assert page.stat().st_size < 3_000_000
    assert outside(page) == []
    for title in ("What to do next", "Who is taken for whom", "Classes", "How it was made"):
        assert title in text
    assert text.count("<svg") == text.count("</svg>") >= 4
    assert "Loss" in text  # it was trained in steps
    counts = sections.train_counts(Run.open(run))
    assert counts == Counter(label for _, label in Run.open(run).labelled("train"))
    assert counts.total() == Run.open(run).record["data"]["train"]


def test_a_page_that_cannot_be_written_leaves_the_run_whole(photos, tmp_path, capsys):
    from zoo.cli.report import at_the_end
    from zoo.finetune import begin
    from zoo.finetune.prepare import prepare

    job = begin.start(
        prepare(settings("lenet", photos, views=1, cut="act4")), tmp_path / "run", Watcher()
    )
    carried_out(job)
    (tmp_path / "run" / "report.html").mkdir()
    at_the_end(job.inputs)
    assert "no report: cannot write" in capsys.readouterr().err
    assert Run.open(tmp_path / "run").finished()


def test_names_on_a_page_stay_text(hostile):
    text = (hostile / "report.html").read_text()
    assert "<script>document.title" not in text
    assert "<img src=x" not in text
    assert "<b>plain" not in text
    assert EVIL in html.unescape(text)
    photos = embedded(hostile / "report.html")
    assert all(EVIL_FILE in path for path, *_ in photos.values())
    assert {label for _, label, *_ in photos.values()} == {EVIL, "<b>plain"}


def test_the_command_of_a_page_makes_the_same_run(here, photos, tmp_path):
    words = ("--val-fraction", 0.4, "--seed", 3, "--no-calibrate", "--balance", "none")
    first = ("finetune", "lenet", photos, *FROZEN, *words, "-o", tmp_path / "first", "--no-report")
    assert here(*first).code == 0
    assert here("report", tmp_path / "first").code == 0
    page = (tmp_path / "first" / "report.html").read_text()
    assert '<span class="flag">--seed</span> 3' in page  # no line ends behind its hyphens
    text = html.unescape(re.sub("</?span.*?>", "", page))
    command = re.search(r"<pre>(zoo finetune .*?)</pre>", text, re.DOTALL)[1]
    assert here(*shlex.split(command.replace("NEW-FOLDER", str(tmp_path / "again")))[1:]).code == 0
    recipes = [(tmp_path / name / "recipe.toml").read_text() for name in ("first", "again")]
    assert recipes[0] == recipes[1]


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A run with penalties tried on photos that a test may take away."""
    root = tmp_path_factory.mktemp("moving")
    photos = write_photos(root / "photos")
    assert main(["finetune", "lenet", str(photos), *FROZEN, "-o", str(root / "run")]) == 0
    return root


def test_the_penalties_that_were_tried_are_kept_and_drawn(moving):
    record = Run.open(moving / "run").record
    tried = record["penalties"]
    assert min(tried, key=lambda row: row["loss"])["penalty"] == record["penalty"]
    text = (moving / "run" / "report.html").read_text()
    assert "Penalties tried" in text
    assert f"chosen: {record['penalty']:.2g}" in text


def test_a_photo_that_cannot_be_read_has_an_error_in_its_place(here, moving, tmp_path):
    shutil.copytree(moving / "run", tmp_path / "run")
    Run.open(tmp_path / "run").update(suspicious=3)
    (photo, *_) = Run.open(moving / "run").photos("val")
    content = photo.read_bytes()
    photo.write_bytes(b"no picture")
    assert here("report", tmp_path / "run").code == 0
    photo.write_bytes(content)
    text = (tmp_path / "run/report.html").read_text()
    assert "not a picture in a format that is read" in text
    assert "3 labels of training photos may be wrong" in text


def test_where_photos_have_moved_the_page_says_so_and_has_no_pictures(here, moving, tmp_path):
    (moving / "photos").rename(moving / "elsewhere")
    try:
        answer = here("report", moving / "run", "-o", tmp_path / "page.html")
    finally:
        (moving / "elsewhere").rename(moving / "photos")
    assert answer.code == 0, answer.err
    text = (tmp_path / "page.html").read_text()
    assert f"The photos are not in {moving / 'photos'} any more" in text
    assert "<img" not in text
    assert "Who is taken for whom" in text
    assert all(not picture for *_, picture, _ in embedded(tmp_path / "page.html").values())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nowhere",), 2, "not a run folder"),
        (("RUN", "-o", "page.pdf"), 2, ".html"),
    ],
)
def test_what_report_refuses(here, run, words, code, said):
    answer = here("report", *(run if word == "RUN" else word for word in words))
    assert answer.code == code
    assert said in answer.err


def test_several_labels_a_photo(here, tmp_path):
    lines = []
    for number in range(20):
        kinds = CLASSES[: 1 + number % 3] if number % 4 else ()
        picture(CLASSES[number % 3], number % 12).rotate(number).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'|'.join(kinds)}")
    (tmp_path / "photos.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    words = ("finetune", "lenet", tmp_path / "photos.csv", *WHOLE)
    answer = here(*words, "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    text = (tmp_path / "run" / "report.html").read_text()
    assert "mean average precision (mAP)" in text
    assert "Labels missed and labels told wrongly" in text
    assert "Who is taken for whom" not in text
    assert here("report", tmp_path / "run").code == 0


@pytest.mark.slow
def test_an_autoencoder_has_its_pictures_beside_what_comes_back(here, photos, tmp_path):
    words = ("train", "conv-autoencoder", photos, "--epochs", 1, "-o", tmp_path / "run")
    assert here(*words).code == 0
    text = (tmp_path / "run" / "report.html").read_text()
    assert "mean squared error of a pixel" in text
    assert "<img" not in text
    assert here("report", tmp_path / "run").code == 0
    text = (tmp_path / "run" / "report.html").read_text()
    assert "Given back worst" in text
    assert text.count("as it is given back") >= 4


def test_folds_and_a_test_part_come_first(here, tmp_path):
    for part in ("train", "val", "test"):
        write_photos(tmp_path / "photos" / part, each=4 + 4 * (part == "train"))
    words = ("finetune", "lenet", tmp_path / "photos", *FROZEN, "--folds", 3, "--keep-duplicates")
    answer = here(*words, "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    text = (tmp_path / "run" / "report.html").read_text()
    assert "of 12 test photos right" in text
    assert "on the 12 val photos" in text
    assert "3 folds: mean " in text
    assert not list((tmp_path / "run" / "repeats").rglob("report.html"))


def answers(count, classes, wrong):
    """So many answers in turn, every `wrong`th of them the next class, less and less sure."""
    found = []
    for k in range(count):
        label, taken = k % classes, (k % classes + (k % wrong == 0)) % classes
        said, sure = (f"c{taken}",), 1 - k / (2 * count)
        found.append(Answer(f"{k}.jpg", (f"c{label}",), said, sure, label == taken))
    return found


def test_of_a_thousand_classes_those_that_are_confused_most_are_shown():
    found = matrix(answers(3000, 1000, 7), [f"c{k}" for k in range(1000)])
    assert len(found.classes) == SHOWN
    assert (found.of, found.mistakes) == (1000, -(-3000 // 7))
    assert found.covered >= SHOWN // 2
    off = sum(
        cell.count for k, row in enumerate(found.cells) for j, cell in enumerate(row) if j != k
    )
    assert off == found.covered
    few = matrix(answers(60, 3, 7), ["c0", "c1", "c2"])
    assert sum(cell.count for row in few.cells for cell in row) == 60
    assert few.covered == few.mistakes == 9
    taken = [(one.label, one.predicted) for one in answers(60, 3, 7)]
    for true, row in zip(few.classes, few.cells, strict=True):
        counts = [taken.count(((true,), (said,))) for said in few.classes]
        assert [cell.count for cell in row] == counts


def test_which_photos_are_shown():
    given = answers(60, 3, 7)
    found = chosen(given, 4)
    assert [given[k].right for k in found.mistakes] == [False] * 4
    sure = [given[k].probability for k in found.mistakes]
    assert (
        sure
        == sorted(sure, reverse=True)
        == sorted((a.probability for a in given if not a.right), reverse=True)[:4]
    )
    assert all(given[k].right for k in found.correct)
    assert not set(found.uncertain) & set(found.mistakes)
    assert chosen([], 4).all == ()


def test_an_interval_of_a_share():
    from scipy.stats import binomtest

    for hits, count in ((0, 12), (5, 12), (12, 12), (88, 120)):
        wanted = binomtest(hits, count).proportion_ci(method="wilson")
        assert wilson(hits, count) == pytest.approx((wanted.low, wanted.high), abs=1e-6)
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.613, 0.618), (0.0, 4e5), (-3.0, 7.0), (2.0, 2.1)])
@pytest.mark.parametrize("unit", ["", "%"])
def test_ticks_are_round_and_few(ends, unit):
    ticks = Axis("x", *ends, unit=unit).ticks()
    assert 3 <= len(ticks) <= 7
    assert len({text for _, text in ticks}) == len(ticks)
    assert all(ends[0] - 1e-9 <= value <= ends[1] + 1e-9 for value, _ in ticks)


def test_what_is_to_be_typed_is_code_on_a_page_and_stays_text() -> None:
    parts = _templates().get_template("parts.html.j2").module
    said = str(parts.spoken("HEIC: `heif <a> --fast` (on a Mac `sips`)"))
    assert said == (
        'HEIC: <code>heif &lt;a&gt; <span class="flag">--fast</span></code> (on a Mac '
        "<code>sips</code>)"
    )


def test_a_chart_escapes_its_texts_and_passes_over_what_is_no_number():
    chart = Chart(Axis("<x>", 0, 1), Axis("y & z", 0, 1), EVIL, "it's")
    chart.line([(0, 0), (0.5, float("nan")), (1, 1)], "c0", "<name>")
    drawn = chart.svg()
    assert "<script" not in drawn
    assert "nan" not in drawn
    assert "&lt;name&gt;" in drawn


def test_compare_draws_the_photos_on_which_runs_differ(here, run, photos, tmp_path):
    words = ("finetune", "lenet", photos, *WHOLE, "--no-report")
    assert here(*words, "-o", tmp_path / EVIL[:8]).code == 0
    assert not (tmp_path / EVIL[:8] / "report.html").exists()
    page = tmp_path / "page.html"
    answer = here("compare", run, tmp_path / EVIL[:8], "--html", page, "--json")
    assert answer.code == 0, answer.err
    (pair,) = json.loads(answer.out)["pairs"]
    text = page.read_text()
    assert text.count("<img") == pair["only_first"] + pair["only_second"] > 0
    taken = re.findall(r'alt="[^"]*: (\w+), taken for (\w+),', text)
    assert len(taken) == text.count("<img")
    assert all(label != said for label, said in taken)  # what the run says that is wrong
    assert "&lt;script" in text
    assert outside(page) == []
    assert here("compare", run, run, "--html", tmp_path / "page.txt").code == 2


def test_a_ranking_is_drawn_by_accuracy_and_time(tmp_path):
    points = [Point("a", 3.0, 0.8, 0.05, True), Point(EVIL, 30.0, 0.9, 0.02, True),
              Point("slow", 40.0, 0.7, 0.1, False)]  # fmt: skip
    rows = [("a", "80.0 %"), (EVIL, "90.0 %")]
    found = (points, (("model", "accuracy"), rows), [("none", "no weights")])
    write(tmp_path / "rank.html", "photos", found, ["3 classes"], "1")
    text = (tmp_path / "rank.html").read_text()
    assert "<script>document" not in text
    assert f"{EVIL} is the most accurate, 90.0 %" in html.unescape(text)
    assert "none: no weights" in text
    assert outside(tmp_path / "rank.html") == []


# In a browser.


@pytest.fixture(scope="module")
def page(hostile, tmp_path_factory):
    """The full page of the run with hostile names."""
    place = tmp_path_factory.mktemp("page") / "page.html"
    assert main(["report", str(hostile), "-o", str(place)]) == 0
    return place


@pytest.mark.browser
def test_a_number_opens_its_photos_by_pointer_and_by_keys(page, tmp_path):
    with browser_page(page) as shown:
        cell = shown.locator(".matrix .miss .opens").first
        count = int(cell.inner_text())
        cell.click()
        dialog = shown.locator("dialog[open]")
        assert dialog.locator("figure").count() == count
        assert dialog.locator("img").first.evaluate("image => image.naturalWidth") > 0
        assert EVIL in dialog.inner_text()
        keep(shown, "report-dialog", tmp_path)
        shown.keyboard.press("Escape")
        assert not dialog.count()
        assert cell.evaluate("cell => cell === document.activeElement")
        shown.keyboard.press("ArrowLeft")
        shown.keyboard.press("ArrowRight")
        shown.keyboard.press("Enter")
        assert shown.locator("dialog[open]").count() == 1
        assert "owned" not in re.sub(r"<script.*", "", shown.title())


@pytest.mark.browser
def test_the_map_tells_its_photos_by_pointer_and_by_keys(page, tmp_path):
    with browser_page(page) as shown:
        shown.locator("#points [data-photo]").first.hover(force=True)
        assert shown.locator("#tip img").is_visible()
        shown.locator("#points").focus()
        shown.keyboard.press("ArrowRight")
        assert shown.locator("#told").inner_text()
        keep(shown, "report-map", tmp_path)
        shown.keyboard.press("Escape")
        assert not shown.locator("#tip").is_visible()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 390), ("dark", 390)]
)
def test_a_page_can_be_read_on_every_screen(page, tmp_path, scheme, width):
    with browser_page(page, scheme=scheme, width=width) as shown:
        assert faint(shown) == []
        assert too_wide(shown) <= 0
        assert shown.locator("img:not([alt])").count() == 0
        assert shown.locator("svg:not([aria-label]):not([aria-hidden])").count() == 0
        keep(shown, f"report-{scheme}-{width}", tmp_path)


@pytest.mark.browser
def test_a_page_on_paper(page, tmp_path):
    with browser_page(page, scheme="dark") as shown:
        shown.emulate_media(media="print")
        assert (
            shown.evaluate("getComputedStyle(document.body).backgroundColor")
            == "rgb(255, 255, 255)"
        )
        assert not shown.locator("nav").is_visible()
        assert faint(shown) == []
        keep(shown, "report-print", tmp_path)
