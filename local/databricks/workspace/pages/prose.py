"""Renders the little Markdown that notebooks have between their cells; everything else stays text."""

import re
from collections.abc import Iterator
from html import escape

__all__ = ["prose"]

_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_INLINE = ((re.compile(r"`([^`]+)`"), r"<code>\1</code>"), (re.compile(r"\*\*([^*]+)\*\*"), r"<b>\1</b>"))


def prose(source: str) -> str:
    r"""Return headings, paragraphs, list items, `code` and **bold** as HTML.

    >>> prose("# Training\nRuns the `stages`.")
    '<h3>Training</h3><p>Runs the <code>stages</code>.</p>'
    """
    return "".join(_blocks(source))


def _blocks(source: str) -> Iterator[str]:
    paragraph: list[str] = []
    for line in [*source.splitlines(), ""]:
        heading = _HEADING.match(line)
        if paragraph and (heading or not line.strip() or line.startswith("- ")):
            yield f"<p>{' '.join(paragraph)}</p>"
            paragraph = []
        if heading:
            yield f"<h3>{_inline(heading[2])}</h3>"
        elif line.startswith("- "):
            yield f"<p>• {_inline(line[2:])}</p>"
        elif line.strip():
            paragraph.append(_inline(line.strip()))


def _inline(text: str) -> str:
    safe = escape(text)
    for pattern, replacement in _INLINE:
        safe = pattern.sub(replacement, safe)
    return safe
