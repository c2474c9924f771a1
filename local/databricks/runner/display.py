"""Shows values as the platform's `display` does: frames as tables, figures as pictures."""

import html
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from .shell import CellOutput

__all__ = ["Display", "markdown_to_html", "table_to_html"]

_MAX_ROWS = 1000
_MAX_CELL = 2000  # characters


class Display:
    """`display` and `displayHTML` of the notebook's namespace."""

    def __init__(self, output: CellOutput) -> None:
        self._output = output

    def display(self, *values: Any, **_: Any) -> None:
        """Show values in the cell that runs."""
        for value in values:
            self._show(value)

    def displayHTML(self, html: str) -> None:  # noqa: N802
        """Show HTML as it is."""
        self._output.write_html(f"{html}\n")

    def _show(self, value: Any) -> None:
        if _is_spark_frame(value):
            columns = value.columns
            rows = [list(row) for row in value.take(_MAX_ROWS + 1)]
            self._output.write_html(table_to_html(columns, rows))
        elif _is_from(value, "pandas") and type(value).__name__ == "DataFrame":
            self._output.write_html(table_to_html(list(value.columns), value.head(_MAX_ROWS + 1).to_numpy().tolist()))
        elif isinstance(value, list) and value and hasattr(value[0], "__dataclass_fields__"):
            columns = list(value[0].__dataclass_fields__)
            self._output.write_html(
                table_to_html(columns, [[getattr(entry, column) for column in columns] for entry in value])
            )
        else:
            shell = InteractiveShell.instance()
            if shell.display_formatter is not None:
                self._output.publish(shell.display_formatter.format(value)[0])  # type: ignore[no-untyped-call]


def table_to_html(columns: list[Any], rows: list[list[Any]]) -> str:
    """Return an HTML table of at most 1,000 rows; every value is escaped."""
    head = "".join(f"<th>{_escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_escape(value)}</td>' for value in row)}</tr>\n" for row in rows[:_MAX_ROWS])
    note = f"<p>Showing the first {_MAX_ROWS:,} rows.</p>\n" if len(rows) > _MAX_ROWS else ""
    return f'<table class="dataframe">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n{note}'


def markdown_to_html(text: str) -> str:
    """Return a Markdown cell as HTML."""
    import markdown

    return str(markdown.markdown(text, extensions=["tables", "fenced_code"]))


def _escape(value: Any) -> str:
    text = "null" if value is None else str(value)
    return html.escape(text if len(text) <= _MAX_CELL else f"{text[:_MAX_CELL]}…")


def _is_spark_frame(value: Any) -> bool:
    return _is_from(value, "pyspark") and hasattr(value, "toPandas") and hasattr(value, "take")


def _is_from(value: Any, package: str) -> bool:
    return any(kind.__module__.split(".")[0] == package for kind in type(value).__mro__)
