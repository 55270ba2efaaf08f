"""The report in a browser: on desktop, telephone and paper, light and dark; checked by axe-core."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from support.summaries import AWKWARD, ODD, make_summary, rich

from fedrad.server.report.report import render
from fedrad.server.results.summary import Cell, Summary

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's `chromium`)"),
]
EVIL = '<script>document.title="taken"</script><img src=x onerror=alert(1)>'


def below_minimum() -> Summary:
    plain = make_summary()
    cells = [
        Cell(model=c.model, site=c.site, outcome=c.outcome, missing="below minimum")
        for c in plain.cells
    ]
    return plain.model_copy(update={"cells": cells, "overall": []})


CASES: dict[str, Summary] = {
    **AWKWARD,
    "everything": rich(),
    "markup": rich(sites=(EVIL, ODD)),
    "all below minimum": below_minimum(),
    "one class": make_summary(sites=("a", "b")).model_copy(
        update={"cells": [c for c in make_summary(sites=("a", "b")).cells if c.site == "b"]}
    ),
    "five outcomes": make_summary(outcomes=("a", "b", "c", "d", "e")),
    "thirty sites": make_summary(sites=tuple(f"hospital-{i:02d}" for i in range(30))),
    "long names": make_summary(sites=("x" * 64, "y" * 64), outcomes=("z" * 64,)),
}
TELEPHONE, DESK, A4 = (390, 844), (1440, 900), (718, 1046)
"""Sizes in CSS pixels; A4 is without margins of 1 cm."""
CUT = """() => [...document.querySelectorAll("table, svg, p, pre, h1, h2, h3, td, th")]
    .filter(e => e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.tagName + ": " + e.textContent.trim().slice(0, 60))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for number, summary in enumerate(CASES.values()):
        (folder / f"{number}.html").write_text(render(summary), encoding="utf-8")
    return {case: folder / f"{number}.html" for number, case in enumerate(CASES)}


def opened(browser: Browser, file: Path, size: tuple[int, int], scheme: str = "light") -> Page:
    """Open the page. A message on the console, an error or a further request fails the test."""
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    events: list[str] = []
    page.on("console", lambda message: events.append(message.text))
    page.on("pageerror", lambda error: events.append(str(error)))
    page.on("request", lambda request: events.append(request.url))
    page.goto(file.as_uri())
    assert events == [file.as_uri()]
    return page


@pytest.mark.parametrize("case", CASES)
def test_the_page_requests_nothing_logs_nothing_and_fits_the_width(
    browser: Browser, pages: dict[str, Path], case: str
) -> None:
    for size in (DESK, TELEPHONE):
        page = opened(browser, pages[case], size)
        assert page.title() != "taken"
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0], f"{case}: the page is {width} wide on a screen of {size[0]}"
        page.close()


@pytest.mark.parametrize("case", CASES)
def test_on_paper_nothing_is_cut(browser: Browser, pages: dict[str, Path], case: str) -> None:
    page = opened(browser, pages[case], A4)
    page.emulate_media(media="print")
    assert page.evaluate(CUT) == []
    assert page.pdf(format="A4")[:4] == b"%PDF"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("case", CASES)
def test_axe_finds_no_serious_violation(
    browser: Browser, pages: dict[str, Path], case: str, scheme: str
) -> None:
    page = opened(browser, pages[case], DESK, scheme)
    violations = Axe().run(page).response["violations"]
    serious = [
        (v["id"], v["nodes"][0]["html"][:120], v["nodes"][0].get("failureSummary"))
        for v in violations
        if v["impact"] in {"serious", "critical"}
    ]
    assert serious == []
    page.close()


def test_every_wide_table_can_be_reached_and_scrolled_by_keyboard(
    browser: Browser, pages: dict[str, Path]
) -> None:
    page = opened(browser, pages["everything"], TELEPHONE)
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    assert page.evaluate(f"{wide}.length") > 0
    assert page.evaluate(f"{wide}.every(e => e.tabIndex === 0 && e.ariaLabel)")
    page.close()
