"""Parses notebooks in Databricks source format into cells.

The format is what `databricks workspace export --format SOURCE` writes: a header, cells divided by a command line,
`MAGIC` prefixes on lines that are not in the notebook's own language, and optional cell titles.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Cell", "Language", "Notebook", "NotebookSourceError", "parse_notebook"]


class Language(StrEnum):
    """What a cell is written in."""

    PYTHON = "python"
    SQL = "sql"
    MARKDOWN = "md"
    SHELL = "sh"
    FILES = "fs"
    RUN = "run"
    SCALA = "scala"
    R = "r"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell: its source without prefixes, and without the magic that names its language."""

    title: str
    language: Language
    source: str
    options: str = ""  # the rest of the magic's line, of a shell cell: `-e`


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """The cells of a notebook in order; empty ones are left out."""

    language: Language
    cells: tuple[Cell, ...]


class NotebookSourceError(Exception):
    """The text is no notebook in source format."""


_COMMENTS = {Language.PYTHON: "#", Language.SQL: "--", Language.SCALA: "//", Language.R: "#"}
_HEADER = re.compile(r"(?P<comment>#|--|//) Databricks notebook source\s*")
_MAGIC_LANGUAGES = {
    "python": Language.PYTHON,
    "sql": Language.SQL,
    "md": Language.MARKDOWN,
    "md-sandbox": Language.MARKDOWN,
    "sh": Language.SHELL,
    "fs": Language.FILES,
    "scala": Language.SCALA,
    "r": Language.R,
}


def parse_notebook(text: str, *, name: str = "notebook") -> Notebook:
    r"""Return the cells of a notebook.

    Raises:
        NotebookSourceError: The first line is not the header of a source-format notebook.

    >>> parse_notebook("# Databricks notebook source\n# MAGIC %md\n# MAGIC # Hello").cells[0].source
    '# Hello'
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    header = _HEADER.fullmatch(lines[0])
    if header is None:
        raise NotebookSourceError(f"{name!r} does not open with '# Databricks notebook source', got {lines[0][:80]!r}")
    language = next(language for language, comment in _COMMENTS.items() if comment == header["comment"])
    chunks: list[list[str]] = [[]]
    divider = re.compile(rf"{re.escape(header['comment'])} COMMAND -+\s*")
    for line in lines[1:]:
        if divider.fullmatch(line):
            chunks.append([])
        else:
            chunks[-1].append(line)
    parsed = (_parse_cell(chunk, default=language) for chunk in chunks)
    return Notebook(language=language, cells=tuple(cell for cell in parsed if cell is not None))


def _parse_cell(lines: list[str], *, default: Language) -> Cell | None:
    comment = _COMMENTS[default]
    body = _without_blank_ends(lines)
    title = ""
    if body and (match := re.fullmatch(rf"{re.escape(comment)} DBTITLE \d+,(?P<title>.*)", body[0])):
        title = match["title"].strip()
        body = _without_blank_ends(body[1:])
    if not body:
        return None
    body = _without_blank_ends([_without_magic(line, comment) for line in body])
    language, options, source = _split_magic(body, default=default)
    return Cell(title=title, language=language, source=source, options=options)


def _split_magic(body: list[str], *, default: Language) -> tuple[Language, str, str]:
    """Return the language, the options and the source of a cell whose prefixes are gone."""
    statements = [line for line in body if line.strip() and not line.lstrip().startswith(_COMMENTS[default])]
    if len(statements) == 1 and (match := re.match(r"%run\s+(?P<rest>\S.*)", statements[0])):
        return Language.RUN, "", match["rest"].strip()
    first = next((index for index, line in enumerate(body) if line.strip()), 0)
    match = re.match(r"%(?P<magic>[a-z-]+)(?P<rest>.*)", body[first]) if body else None
    if match is None or match["magic"] not in _MAGIC_LANGUAGES:
        return default, "", "\n".join(body)
    language = _MAGIC_LANGUAGES[match["magic"]]
    rest, options = match["rest"].strip(), ""
    if language is Language.SHELL and (flags := re.match(r"(?:-\w+\s*)+", rest)):
        options, rest = flags[0].strip(), rest[flags.end() :]
    remaining = [rest, *body[first + 1 :]] if rest else body[first + 1 :]
    return language, options, "\n".join(remaining)


def _without_magic(line: str, comment: str) -> str:
    prefix = f"{comment} MAGIC"
    return line[len(prefix) :].removeprefix(" ") if line == prefix or line.startswith(f"{prefix} ") else line


def _without_blank_ends(lines: list[str]) -> list[str]:
    start, end = 0, len(lines)
    while start < end and not lines[start].strip():
        start += 1
    while end > start and not lines[end - 1].strip():
        end -= 1
    return lines[start:end]
