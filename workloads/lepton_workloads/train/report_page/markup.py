"""HTML from Python: elements are nested calls, and whatever is no element is escaped."""

import html
import re
from collections.abc import Iterable

VOID = frozenset({"br", "circle", "img", "line", "link", "meta", "path", "polyline", "rect"})
"""Elements without an end tag; those of SVG stand in HTML, where a slash closes them."""
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = object
"""Markup, text (escaped), numbers, None (nothing), or iterables of them."""


def text(value: object) -> str:
    """Escaped; characters that no HTML may hold are replaced."""
    return html.escape(_CONTROL.sub("\ufffd", str(value)))


def element(name: str, /, *children: Child, **attributes: object) -> Markup:
    """An element. Names of attributes end in `_` where Python has the word (`class_`), and other `_` become `-`.

    An attribute of None or False is left out, one of True has no value.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Children one after the other."""
    return Markup("".join(_render(child) for child in children))


def _render(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str) or not isinstance(child, Iterable):
        return text(child)
    return join(child)


def table(
    caption: str, head: Iterable[Child], rows: Iterable[Iterable[Child]], **attributes: object
) -> Markup:
    """A table whose first column names the row, in a box that scrolls by itself and can be reached by the keyboard."""
    columns = element("tr", (_head(cell) for cell in head))
    body = (element("tr", (_cell(number, cell) for number, cell in enumerate(row))) for row in rows)
    content = (element("caption", caption), element("thead", columns), element("tbody", body))
    return scrolling(caption, element("table", content, **attributes))


def scrolling(name: str, content: Markup) -> Markup:
    """A box that scrolls sideways, so that the page does not."""
    return element("div", content, class_="scroll", role="region", aria_label=name, tabindex=0)


def _head(cell: Child) -> Markup:
    if isinstance(cell, Markup) and cell.startswith("<th"):
        return cell
    return element("th", cell, scope="col")


def _cell(number: int, cell: Child) -> Markup:
    if isinstance(cell, Markup) and cell.startswith(("<td", "<th")):
        return cell
    return element("td", cell) if number else element("th", cell, scope="row")
