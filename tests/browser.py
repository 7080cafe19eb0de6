"""A real browser for the tests of pages: Debian's Chromium, which `scripts/browser.sh` installs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE, DESKTOP = (360, 740), (1280, 900)


@dataclass
class Opened:
    """A page and what was seen while it was opened."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def all(self, expression: str, selector: str) -> Any:
        """What a JavaScript expression of `e` says for each element."""
        return self.page.eval_on_selector_all(selector, f"all => all.map(e => {expression})")

    def check(self, width: int) -> None:
        """It fits the screen, nothing failed, and nothing was fetched from elsewhere."""
        widths = self.page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
        assert max(widths) <= width
        self.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width
        assert self.errors == []
        assert [url for url in self.requests if not url.startswith("data:")] == [self.page.url]


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """The browser; `flags` come to those that all tests have."""
    assert Path(CHROMIUM).exists(), "install Chromium with scripts/browser.sh"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        yield browser
        browser.close()


Show = Callable[..., Opened]


@contextmanager
def shown(browser: Browser, folder: Path) -> Iterator[Show]:
    """Opens pages, each as a file of the folder: `show(html, size, scheme)`."""
    contexts: list[BrowserContext] = []

    def open_page(html: str, size: tuple[int, int] = DESKTOP, scheme: Any = "light") -> Opened:
        path = folder / "report.html"
        path.write_text(html, encoding="utf-8")
        opened = new_page(browser, size, scheme)
        contexts.append(opened.page.context)
        opened.page.goto(path.as_uri(), wait_until="load")
        return opened

    yield open_page
    for context in contexts:
        context.close()


def new_page(
    browser: Browser, size: tuple[int, int] = DESKTOP, scheme: Any = "light", **options: Any
) -> Opened:
    """An empty page in a context of its own, which the caller closes."""
    viewport: Any = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, color_scheme=scheme, **options)
    opened = Opened(context.new_page())
    opened.page.on("console", lambda message: opened.errors.append(message.text))
    opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.page.on("dialog", lambda dialog: opened.errors.append(dialog.message))
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    return opened


INK_ON_GROUND = """
selector => [...document.querySelectorAll(selector)]
  .filter(element => element.innerText.trim())
  .map(element => {
    let ground = element;
    while (ground && getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
    const canvas = document.createElement('canvas').getContext('2d');
    const paint = (color, under) => {
      canvas.fillStyle = under; canvas.fillRect(0, 0, 1, 1);
      canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
      return 'rgb(' + [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)].join(', ') + ')';
    };
    const card = getComputedStyle(document.querySelector('.card')).backgroundColor;
    const back = paint(getComputedStyle(ground || document.body).backgroundColor, card);
    return [paint(getComputedStyle(element).color, back), back];
  })
"""
"""Colours of each text and of what lies under it; cells are half transparent on their card."""


def luminance(color: str) -> float:
    """Relative luminance of `rgb(...)`, as WCAG 2 defines it."""
    values = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, as WCAG 2 defines it."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
