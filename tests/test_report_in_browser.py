"""The report in headless Chromium: wide and narrow, light and dark, sorted, searched, printed, without scripts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import autometa as am
from autometa.comparison.report.page import write_report
from test_hard_tasks import a_table
from test_report import made_up
from test_report_sections import with_scores

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install 'autometa[browser]'")

pytestmark = [
    pytest.mark.slow,
    # Playwright leaves what it read of a browser to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

INSTALLED = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
PAPER = 703
"""Pixels across a page of A4 between its margins."""
EVERY = "details.every"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium
        path = next(filter(None, map(shutil.which, INSTALLED)), None)
        if path is None and not Path(chromium.executable_path).exists():
            pytest.skip("no Chromium is installed: apt-get install chromium, or playwright install chromium")
        opened = chromium.launch(executable_path=path)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a real comparison on images, a function, a table and worlds, with a label that is markup."""
    output = tmp_path_factory.mktemp("real")
    tasks = {
        "digits <script>alert(1)": am.make_tasks("digits", n_query=3),
        "sinusoid": am.make_tasks("sinusoid"),
        "schools": am.make_tasks("table", data=a_table(), task="school", target="score", n_shot=4),
        "grid": am.make_tasks("gridnavi", size=3, steps=4, n_shot=1),
    }
    learners = ["ridge", "maml", "sklearn", "sklearn_pooled", "control/random"]
    options = {"n_trials": 2, "n_seeds": 2, "n_test_tasks": 40, "max_steps": 2, "verbose": 0, "device": "cpu"}
    am.compare(tasks, learners, output=output, **options)
    return output / "report.html"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two thousand tasks."""
    record = with_scores(made_up(("glyphs",), n_trials=2), 2000, n_seeds=1)
    return write_report(record, tmp_path_factory.mktemp("many") / "report.html")


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page that may load nothing but itself, and see to it that nothing went wrong in it."""
    contexts, said = [], []

    def opened(path: Path, width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def column(page: Any, place: int, table: str = f"{EVERY} table") -> list[str]:
    """Texts of the cells of a column that are seen."""
    texts: list[str] = page.evaluate(
        "([table, place]) => [...document.querySelector(table).tBodies[0].rows]"
        ".filter(row => !row.hidden).map(row => row.cells[place].textContent)",
        [table, place],
    )
    return texts


def numbers(texts: list[str]) -> list[float]:
    return [float(text.rstrip("%")) for text in texts]


def contrast(page: Any, selector: str) -> float:
    """Contrast of a text with the page, as WCAG 2 (section 1.4.3) defines it."""
    ink, paper = page.evaluate(
        "selector => [getComputedStyle(document.querySelector(selector)).color,"
        " getComputedStyle(document.body).backgroundColor]",
        selector,
    )

    def luminance(color: str) -> float:
        shares = [int(part) / 255 for part in color.removeprefix("rgb(").rstrip(")").split(",")]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_as_wide_as_the_screen_with_everything_open(
    visit: Callable[..., Any], report: Path, width: int, scheme: str
) -> None:
    page = visit(report, width, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wider = page.evaluate(
        "width => [...document.querySelectorAll('p, h1, h2, h3, li, figure, .card, .scroll, pre, .controls')]"
        ".filter(part => part.getBoundingClientRect().right > width).map(part => part.outerHTML.slice(0, 80))",
        width,
    )
    assert wider == []
    broken = page.evaluate("[...document.images].filter(image => !image.naturalWidth).length")
    assert page.evaluate("document.images.length") > 10
    assert broken == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_stands_out_in_light_and_in_dark(visit: Callable[..., Any], report: Path, scheme: str) -> None:
    page = visit(report, color_scheme=scheme)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    for selector in ("body", ".note", "th", "a", ".lead li", ".better", ".worse"):
        assert contrast(page, selector) >= 4.5, selector


def test_a_click_on_a_heading_sorts_up_and_another_down(visit: Callable[..., Any], many: Path) -> None:
    page = visit(many)
    page.locator(f"{EVERY} summary").click()
    heading = page.locator(f"{EVERY} th[scope=col]").nth(2)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    up = numbers(column(page, 2))
    assert up == sorted(up)
    assert len(up) == 2000
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert numbers(column(page, 2)) == sorted(up, reverse=True)
    page.locator(f"{EVERY} th[scope=col] button").first.click()
    assert [int(text) for text in column(page, 0)] == list(range(2000))
    assert heading.get_attribute("aria-sort") is None


def test_what_is_no_number_is_sorted_last_and_durations_by_their_length(visit: Callable[..., Any], many: Path) -> None:
    page = visit(many)
    board = "#tasks-0 table"
    place = page.evaluate(
        "table => [...document.querySelector(table).tHead.rows[0].cells]"
        ".findIndex(cell => cell.textContent === 'meta-training')",
        board,
    )
    page.evaluate(
        "([table, place]) => ['–', '1 h 02 min', '1 min 03 s', '2.5 s', '40 ms', '0 s'].forEach((text, row) =>"
        " document.querySelector(table).tBodies[0].rows[row].cells[place].textContent = text)",
        [board, place],
    )
    button = page.locator(f"{board} th[scope=col]").nth(place).locator("button")
    button.click()
    sorted_up = column(page, place, board)
    assert sorted_up[-1] == "–"
    places = list(map(sorted_up.index, ("0 s", "40 ms", "2.5 s", "1 min 03 s", "1 h 02 min")))
    assert places == sorted(places)
    button.click()
    assert column(page, place, board)[0] == "1 h 02 min"
    assert column(page, place, board)[-1] == "–"


def test_a_search_leaves_the_rows_with_all_words(visit: Callable[..., Any], many: Path) -> None:
    page = visit(many, 390)
    page.locator(f"{EVERY} summary").click()
    field, count = page.locator(f"{EVERY} input[type=search]"), page.locator(f"{EVERY} output")
    assert count.text_content() == "2000 rows"
    everything = column(page, 0)
    field.fill("199 PROTO")
    wanted = [text for text in everything if "199" in text]
    assert set(wanted) <= set(column(page, 0))
    assert count.text_content() == f"{len(column(page, 0))} of 2000 rows"
    assert page.locator(f"{EVERY} tbody tr").first.is_hidden() == (everything[0] not in column(page, 0))
    page.locator(f"{EVERY} th[scope=col] button").nth(1).click()
    assert len(column(page, 0)) < 2000, "what is sorted stays searched"
    field.fill("nobody")
    assert column(page, 0) == []
    field.fill("")
    assert count.text_content() == "2000 rows"
    assert sorted(column(page, 0)) == sorted(everything)


def test_without_scripts_everything_is_there_to_read(visit: Callable[..., Any], many: Path) -> None:
    page = visit(many, java_script_enabled=False)
    assert page.locator("th button, input, output").count() == 0
    rows = page.locator(f"{EVERY} tbody tr")
    assert rows.count() == 2000
    page.locator(f"{EVERY} summary").click()
    assert rows.nth(3).is_visible()


def test_on_paper_nothing_is_cut_off_and_nothing_asks_for_a_click(visit: Callable[..., Any], report: Path) -> None:
    page = visit(report, PAPER)
    page.locator(f"{EVERY} summary").first.click()
    page.emulate_media(media="print")
    assert page.locator(".controls").first.is_hidden()
    assert page.locator(f"{EVERY} tbody tr").last.is_hidden(), "tables of every task are printed where they are open"
    assert page.evaluate("document.documentElement.scrollWidth") == PAPER
    cut = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(box => box.scrollHeight > box.clientHeight + 1"
        " || box.scrollWidth > box.clientWidth + 1).map(box => box.textContent.slice(0, 80))"
    )
    assert cut == []
    assert page.pdf(format="A4")[:5] == b"%PDF-"
