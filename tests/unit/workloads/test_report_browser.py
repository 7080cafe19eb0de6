"""`report.html` in a real browser, as a person opens it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from lepton_workloads.train.report_page.page import report_html
from tests.browser import DESKTOP, INK_ON_GROUND, PHONE, Show, chromium, contrast, luminance, shown

from .story import HOSTILE, story

INKS = "h1, h2, h3, p, th, td, a, dt, dd, li, caption, summary, .file, .note"
LONG = ["W" * 300, "no spaces in this label" * 9, "owl"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Show]:
    """Opens a page of a file."""
    with shown(browser, tmp_path) as show:
        yield show


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
@pytest.mark.parametrize("labels", [["cat", "dog"], HOSTILE, LONG, [f"class {n}" for n in range(40)]])
def test_it_fits_the_screen_without_errors_or_requests(
    show: Show, labels: list[str], size: tuple[int, int]
) -> None:
    show(report_html(story(labels, files=labels)), size).check(size[0])


def test_every_picture_is_shown_and_has_a_text(show: Show) -> None:
    opened = show(report_html(story(size=(33, 20, 1))))
    pictures = opened.all("[e.complete, e.naturalWidth, e.naturalHeight, e.alt]", "img")
    assert len(pictures) >= 12
    for complete, width, height, text in pictures:
        assert complete
        assert (width, height) in ((20, 33), (8, 8))
        assert text
    assert all(opened.all("e.getAttribute('aria-label').length > 20", "svg"))
    backgrounds = opened.all("getComputedStyle(e).backgroundImage", "span.pixels")
    assert all(background.startswith('url("data:image/png;base64,') for background in backgrounds)


def test_hostile_labels_are_shown_as_text_and_do_nothing(show: Show) -> None:
    opened = show(report_html(story(HOSTILE, files=HOSTILE)))
    assert opened.page.title() == "vision/animals · training report"
    assert opened.page.evaluate("document.scripts.length") == 0
    assert opened.page.locator("h1").all_inner_texts() == ["animals"]
    shown = opened.page.inner_text("body")
    for label in HOSTILE[:3]:
        assert label in shown
    assert opened.errors == []


def test_the_dark_scheme_is_dark_and_readable(show: Show) -> None:
    html = report_html(story(gate={"metric": "accuracy", "atLeast": 0.9}))
    for scheme in ("light", "dark"):
        opened = show(html, PHONE, scheme)
        page = opened.all("getComputedStyle(e).backgroundColor", "body")[0]
        assert (luminance(page) < 0.05) == (scheme == "dark")
        for ink, ground in opened.page.evaluate(INK_ON_GROUND, INKS):
            assert contrast(ink, ground) >= 4.5, (scheme, ink, ground)


def test_the_keyboard_reaches_everything_that_can_be_used(show: Show) -> None:
    opened = show(report_html(story()), PHONE)
    usable = opened.all("e.outerHTML.slice(0, 80)", "a[href], summary, [tabindex]")
    assert len(usable) > 12
    reached = []
    for _ in usable:
        opened.page.keyboard.press("Tab")
        reached.append(opened.page.evaluate("document.activeElement.outerHTML.slice(0, 80)"))
    # Tables in closed details are not there.
    hidden = opened.all("e.outerHTML.slice(0, 80)", "details [tabindex]")
    assert set(usable) - set(hidden) <= set(reached)
    opened.page.focus("summary")
    opened.page.keyboard.press("Enter")
    assert opened.all("e.open", "details")[0]
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.getAttribute('aria-label')") == "All epochs"


def test_links_lead_to_their_sections(show: Show) -> None:
    opened = show(report_html(story()), PHONE)
    opened.page.click("nav a:has-text('Lineage')")
    opened.page.wait_for_function(
        "Math.abs(document.querySelector('#lineage').getBoundingClientRect().top) < 60"
    )
    assert opened.page.url.endswith("#lineage")
