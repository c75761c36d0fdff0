"""The page as users see it: it opens from a file, draws, responds, and never runs its data."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made import HOSTILE, colour_of, made_report
from pages import Opened
from playwright.sync_api import Locator, Page, expect

from slic.cache.clusterings import read_names
from slic.page import write_page

Open = Callable[..., Opened]
ALL = ["summary", "curves", "paper", "gallery", "classes", "clusters", "changes", "confusion"]
ALL += ["map", "failed"]
PIXEL = """([selector, x, y]) => {
    const image = document.querySelector(selector);
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const paint = canvas.getContext("2d");
    paint.drawImage(image, 0, 0);
    return [...paint.getImageData(x, y, 1, 1).data].slice(0, 3);
}"""


def written(folder: Path, report: Any, images: dict[str, bytes]) -> Path:
    path = folder / "report.html"
    assert write_page(path, report, images) == path.stat().st_size
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made report of 60 videos as a file, which tests only read."""
    return written(tmp_path_factory.mktemp("made"), *made_report())


@pytest.fixture
def page(made: Path, opened: Open) -> Page:
    """The made report, opened in a window of the usual size."""
    return opened(made).page


def sections(page: Page) -> list[str]:
    return page.eval_on_selector_all("main > section", "all => all.map(one => one.id)")


def dark_pixels(page: Page) -> float:
    """Brightness of the page's ground, 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    numbers = [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    return sum(numbers) / 3


def test_every_section_is_drawn_and_every_control_has_a_name(page: Page) -> None:
    assert sections(page) == ALL
    assert page.eval_on_selector_all("nav a", "all => all.map(a => a.hash.slice(1))") == ALL
    for key in ALL:
        assert page.locator(f"#{key} > :not(h2)").count() > 0, key
    shares = page.eval_on_selector_all(
        "#classes meter-bar",
        "all => all.map(bar => bar.firstChild.offsetWidth / bar.offsetWidth)",
    )
    recall = sorted(one["recall"] for one in made_report()[0]["classes"])
    assert shares == pytest.approx(recall, abs=0.02)
    unnamed = page.eval_on_selector_all(
        "button, input, select, [tabindex='0'], [role=img]",
        """all => all.filter((one) => !one.getAttribute("aria-label") && !one.textContent.trim())
            .filter((one) => !one.labels?.length).map((one) => one.outerHTML.slice(0, 80))""",
    )
    assert unnamed == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.eval_on_selector_all("img", "all => all.filter(i => !i.alt).length") == 0


def test_hostile_names_are_shown_and_never_run(page: Page) -> None:
    page.locator("#clusters details > summary").first.click()
    page.locator("#clusters details[open] input").fill("<img src=x onerror=alert(1)>")
    expect(page.locator("#clusters details[open] .stills li").first).to_be_visible()
    assert page.title() == "made-<i>run</i>-1"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert (
        page.locator("img:not([src^='blob:']), svg[onload], [onerror], b, body i.owned").count()
        == 0
    )
    shown = page.locator("main").inner_text()
    for text in HOSTILE[:6]:
        assert text in shown


def test_the_policy_refuses_what_is_not_the_pages_own(made: Path, opened: Open) -> None:
    one = opened(made)
    one.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'owned'";
            const button = document.createElement("button");
            button.setAttribute("onclick", "document.title = 'owned'");
            const image = document.createElement("img");
            image.src = "other.png";
            document.body.append(script, button, image);
            button.click();
        }"""
    )
    one.page.wait_for_timeout(100)
    assert one.page.title() == "made-<i>run</i>-1"
    # Chromium says what it refuses in the console; the picture was asked for and never sent.
    assert len([p for p in one.problems if "Content Security Policy" in p]) == 3
    one.problems.clear()
    one.requests.remove(one.address.replace("report.html", "other.png"))


def test_pictures_are_those_of_their_videos(page: Page) -> None:
    report, _ = made_report()
    match = report["gallery"]["views"][0]["groups"][0]["rows"][0]
    rows = [match["query"], *(n["video"] for n in match["neighbours"])]
    page.locator("#gallery").scroll_into_view_if_needed()
    cards = page.locator("#gallery .match").first.locator(".card")
    assert cards.count() == len(rows)
    for i, row in enumerate(rows):
        image = cards.nth(i).locator("img")
        image.wait_for()
        image.evaluate("(one) => one.id = 'asked'")
        found = page.evaluate(PIXEL, ["#asked", 120, 5])
        image.evaluate("(one) => one.removeAttribute('id')")
        assert found == pytest.approx(list(colour_of(row))[::-1], abs=12)
        assert report["videos"]["id"][row] in (image.get_attribute("alt") or "")


def test_right_and_wrong_are_told_in_words_and_pictures_can_be_paused(page: Page) -> None:
    rows = made_report()[0]["gallery"]["views"][0]["groups"][0]["rows"]
    expected = [n["right"] for row in rows[:8] for n in row["neighbours"]]
    texts = page.locator("#gallery .match .verdict").all_inner_texts()
    assert ["same" in text for text in texts] == expected
    page.locator("#gallery button", has_text="Worst classes").click()
    assert page.locator("#gallery .match").count() == 4
    page.locator("#gallery").scroll_into_view_if_needed()
    strip = page.locator("#gallery .strip img").first
    strip.wait_for()
    state = "(one) => getComputedStyle(one).animationPlayState"
    assert strip.evaluate(state) == "running"
    page.locator("#gallery button", has_text="Pause").click()
    assert strip.evaluate(state) == "paused"


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_colours_and_motion_follow_the_system_and_the_button(
    made: Path, opened: Open, scheme: str, dark: bool
) -> None:
    page = opened(made, color_scheme=scheme, reduced_motion="reduce").page
    assert (dark_pixels(page) < 100) == dark
    page.locator("#theme").click()
    assert (dark_pixels(page) < 100) != dark
    assert page.evaluate("document.body.classList.contains('still-paused')")


def place_of(page: Page, row: int, report: Any) -> tuple[float, float]:
    """Where a row of the map stands in the window: the whole map fills its frame but for 16 px."""
    box = page.locator(".cloud canvas").first.bounding_box()
    assert box
    xs, ys = report["map"]["x"], report["map"]["y"]
    wide, high = max(xs) - min(xs), max(ys) - min(ys)
    side = min((box["width"] - 32) / wide, (box["height"] - 32) / high)
    at = report["map"]["videos"].index(row)
    x = box["x"] + box["width"] / 2 + (xs[at] - min(xs) - wide / 2) * side
    y = box["y"] + box["height"] / 2 + (ys[at] - min(ys) - high / 2) * side
    return x, y


def alone(report: Any) -> int:
    """The row that is farthest from all others on the map."""
    xs, ys = report["map"]["x"], report["map"]["y"]
    n = len(xs)

    def gap(i: int) -> float:
        return min((xs[i] - xs[j]) ** 2 + (ys[i] - ys[j]) ** 2 for j in range(n) if j != i)

    return max(range(n), key=gap)


def test_hovering_over_the_map_shows_the_video_there(page: Page) -> None:
    report, _ = made_report()
    row = alone(report)
    page.locator(".cloud").scroll_into_view_if_needed()
    page.mouse.move(*place_of(page, row, report))
    tip = page.locator("#tip")
    expect(tip).to_contain_text(report["videos"]["id"][row])
    expect(tip).to_contain_text(report["videos"]["label"][row])
    image = tip.locator("img")
    image.wait_for()
    x, y = (-float(part[:-2]) for part in image.evaluate("(i) => i.style.objectPosition").split())
    found = page.evaluate(PIXEL, ["#tip img", x + 40, y + 30])
    assert found == pytest.approx(list(colour_of(row))[::-1], abs=12)
    page.mouse.click(*place_of(page, row, report))
    expect(page.locator(".pinned")).to_contain_text(report["videos"]["id"][row])
    page.mouse.move(5, 5)
    expect(tip).to_be_hidden()


def test_the_map_is_searched_and_filtered(page: Page) -> None:
    labels, ids = (made_report()[0]["videos"][key] for key in ("label", "id"))
    search = page.locator("#map input[type=search]")
    said = page.locator("#map [role=status]")
    for text in ("action 1", "video_0003", "no such thing"):
        search.fill(text)
        hits = sum(text in i or text in label for i, label in zip(ids, labels, strict=True))
        expect(said).to_have_text(f"{hits} of 60 videos")
    search.fill("")
    expect(said).to_have_text("")
    page.locator("#map select").select_option(label="cluster")
    page.locator("#map .keys button", has_text="second").click()
    clusters = made_report()[0]["videos"]["cluster"]
    expect(said).to_have_text(f"{clusters.count(1)} of 60 videos")


def test_the_map_by_keyboard_alone(page: Page) -> None:
    page.locator(".cloud canvas").first.focus()
    tip, texts = page.locator("#tip"), []
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        texts.append(tip.inner_text())
    assert len(set(texts)) == 4
    page.keyboard.press("Enter")
    expect(page.locator(".pinned .tipped")).to_have_count(1)
    before = tip.bounding_box()
    for _ in range(3):
        page.keyboard.press("+")
    after = tip.bounding_box()
    assert before
    assert after
    assert (after["x"], after["y"]) == pytest.approx((before["x"], before["y"]), abs=1)
    assert tip.inner_text() == texts[-1]
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    # A class of the list is searched on the map.
    labels = made_report()[0]["videos"]["label"]
    page.locator("#classes .bars button", has_text="action 1").click()
    hits = f"{labels.count('action 1')} of 60 videos"
    expect(page.locator("#map [role=status]")).to_have_text(hits)


def test_clusters_are_found_and_named_in_the_last_clustering(page: Page) -> None:
    texts = page.eval_on_selector_all("#changes svg text", "all => all.map(t => t.textContent)")
    # Cluster 1 is named `second`; in the clustering before, 1 is another cluster.
    assert texts.count("second") == 1
    assert texts.count("1 action 1") == 1
    assert texts.count("0 action 0") == 2
    assert page.locator("#clusters li[data-cluster]").count() == 7
    page.locator("#clusters input[type=search]").fill("second")
    assert page.locator("#clusters li[data-cluster]").count() == 1
    members = [i for i in range(60) if i % 7 == 1]
    expect(open_cluster(page, 1).locator(".stills li")).to_have_count(len(members))


def test_curves_tell_their_values(page: Page) -> None:
    curve = made_report()[0]["curves"][0]
    drawing = page.locator("#curves svg[tabindex]").first
    drawing.focus()
    for x, y in curve["series"][0]["points"][:3]:
        page.keyboard.press("ArrowRight")
        text = page.locator("#tip").inner_text()
        assert f"epoch {x}" in text
        assert float(text.split("instance loss ")[1].split()[0]) == pytest.approx(y, rel=1e-3)
    page.locator("#curves details summary").first.click()
    expect(page.locator("#curves details[open] tbody tr")).to_have_count(20)


def open_cluster(page: Page, number: int) -> Locator:
    one = page.locator(f'#clusters li[data-cluster="{number}"]')
    one.locator("summary").click()
    return one


@pytest.mark.parametrize(("width", "scale"), [(360, 100), (640, 200), (1280, 200)])
def test_phones_and_large_text_need_no_sideways_scrolling(
    made: Path, opened: Open, width: int, scale: int
) -> None:
    page = opened(made, viewport={"width": width, "height": 740}).page
    page.evaluate(f"document.documentElement.style.fontSize = '{scale}%'")
    for key in ALL:
        page.locator(f"#{key}").scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_paper_nothing_is_cut_off_or_dark(opened: Open, tmp_path: Path) -> None:
    report, images = made_report()
    # Six clusterings, which are drawn wider than paper.
    report["clusters"]["columns"] *= 3
    report["clusters"]["changes"] *= 5
    page = opened(written(tmp_path, report, images), color_scheme="dark").page
    page.set_viewport_size({"width": 700, "height": 1000})
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    cut = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).length"
    assert page.eval_on_selector_all(".scroll", cut) == 0
    brightness = """canvas => {
        const paint = document.createElement("canvas").getContext("2d");
        paint.drawImage(canvas, canvas.width - 2, 1, 1, 1, 0, 0, 1, 1);
        const [red, green, blue] = paint.getImageData(0, 0, 1, 1).data;
        return (red + green + blue) / 3;
    }"""
    assert page.eval_on_selector(".matrix canvas", brightness) > 200
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.eval_on_selector(".matrix canvas", brightness) < 60


def reloaded_names(page: Page, target: Path) -> dict[int, str]:
    """The names that the page saves after it was opened anew."""
    page.reload()
    page.wait_for_selector("html[data-drawn]", state="attached")
    with page.expect_download() as saving:
        page.locator("#save-names").click()
    saving.value.save_as(target)
    return read_names(target)


def test_names_given_on_a_page_outlast_those_it_came_with(opened: Open, tmp_path: Path) -> None:
    page = opened(written(tmp_path, *made_report()), accept_downloads=True).page
    target = tmp_path / "clusters.csv"
    given = 'quoted "name", with comma'
    open_cluster(page, 0).locator("input").fill(given)
    assert reloaded_names(page, target) == {0: given, 1: "second"}
    with target.open(newline="", encoding="utf-8") as file:
        assert [row["clustering"] for row in csv.DictReader(file)] == ["epoch00019"] * 2
    assert given in page.locator("#clusters").inner_text()
    open_cluster(page, 0).locator("input").fill("")
    open_cluster(page, 1).locator("input").fill("edited")
    open_cluster(page, 2).locator("input").fill("a\u2028b\x0bc\x85d")
    assert reloaded_names(page, target) == {1: "edited", 2: "a b c d"}
    open_cluster(page, 1).locator("input").fill("")
    assert reloaded_names(page, target) == {2: "a b c d"}
    # A report made later brings its own names; kept ones fill in where it has none.
    report, images = made_report()
    written(tmp_path, report | {"made": "2026-01-02 00:00 UTC"}, images)
    assert reloaded_names(page, target) == {1: "second", 2: "a b c d"}


def test_names_of_another_run_with_that_title_are_not_used(opened: Open, tmp_path: Path) -> None:
    page = opened(written(tmp_path, *made_report()), accept_downloads=True).page
    open_cluster(page, 2).locator("input").fill("edited")
    written(tmp_path, *made_report(61))
    assert reloaded_names(page, tmp_path / "clusters.csv") == {1: "second"}


def test_confusion_by_keyboard_and_as_a_list(page: Page) -> None:
    page.locator("#confusion canvas").focus()
    page.keyboard.press("ArrowRight")
    tip = page.locator("#tip").inner_text()
    assert "action 0" in tip
    assert "predicted as action 1" in tip
    assert "2 videos (40.0 %)" in tip
    cells = page.locator("#confusion tbody tr").first.locator("th, td").all_inner_texts()
    assert cells == ["action 0", "action 1", "2", "40 %"]


def test_without_labels_it_shows_what_can_be_shown(tmp_path: Path, opened: Open) -> None:
    page = opened(written(tmp_path, *made_report(labelled=False))).page
    assert sections(page) == [key for key in ALL if key not in ("classes", "confusion")]
    assert page.locator("#gallery .verdict").count() == 0
    options = page.locator("#map select option").all_inner_texts()
    assert options == ["cluster", "split"]


def test_a_report_of_next_to_nothing(tmp_path: Path, opened: Open) -> None:
    report = {"kind": "report", "title": "", "made": "", "slic": "0", "facts": [["run", "x"]]}
    page = opened(written(tmp_path, report, {})).page
    assert sections(page) == ["summary"]
    assert page.locator("nav").is_hidden()


def test_the_answer_to_a_search_is_a_page_of_its_own(tmp_path: Path, opened: Open) -> None:
    report, images = made_report(labelled=False)
    kept = ("title", "made", "slic", "facts", "videos", "stills", "strips")
    views = [{**report["gallery"]["views"][0], "key": "queries", "title": "Queries"}]
    answer = {key: report[key] for key in kept} | {"kind": "search"}
    answer["gallery"] = {**report["gallery"], "views": views}
    page = opened(written(tmp_path, answer, images)).page
    assert sections(page) == ["gallery"]
    assert page.locator("nav").is_hidden()
    assert "runs/made" in page.locator("header").inner_text()
    assert page.locator("#gallery .match").count() == 8
    page.locator("#gallery button", has_text="more").click()
    assert page.locator("#gallery .match").count() == 10


def test_it_prints_whole(made: Path, opened: Open, tmp_path: Path) -> None:
    page = opened(made).page
    printed = page.pdf()
    assert printed.startswith(b"%PDF")
    assert page.locator("#gallery .strip:not(.none) img").count() == 8 * 7
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert dark_pixels(page) == 255


def test_a_number_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with pytest.raises(ValueError, match="JSON"):
        write_page(path, {"title": "x", "figures": [{"value": float("nan")}]}, {})
    assert not path.exists()
