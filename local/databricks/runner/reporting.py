"""Writes what a run did: cells.json while it runs, the result file at its end, both by rename."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .notebook_source import Cell
from .request import Request

__all__ = ["CellRecord", "Report", "write_failure"]

_MAX_CHARACTERS = 5_000_000  # of one cell's output, each of text and HTML
_TRUNCATED = "\n*** WARNING: max output size exceeded, skipping output. ***\n"

Redact = Callable[[str], str]


class CellRecord:
    """One cell and what it has put out so far."""

    def __init__(self, cell: Cell, index: int) -> None:
        self.cell = cell
        self.index = index
        self.state = "PENDING"
        self.duration_s: float | None = None
        self._text: list[str] = []
        self._html: list[str] = []
        self._sizes = {"text": 0, "html": 0}
        self._lock = threading.Lock()
        self._started = 0.0

    def start(self) -> None:
        """Mark the cell as running."""
        self.state = "RUNNING"
        self._started = time.monotonic()

    def finish(self, state: str) -> None:
        """Mark the cell as ended: SUCCESS or FAILED."""
        self.state = state
        self.duration_s = round(time.monotonic() - self._started, 3)

    def write_text(self, text: str) -> None:
        """Add plain output."""
        self._append("text", self._text, text)

    def write_html(self, html: str) -> None:
        """Add rich output."""
        self._append("html", self._html, html)

    def to_json(self, redact: Redact) -> dict[str, Any]:
        """Return the cell as the contract with the workspace has it."""
        with self._lock:
            text, html = "".join(self._text), "".join(self._html)
        return {
            "title": self.cell.title,
            "source": self.cell.source,
            "language": self.cell.language.value,
            "outputs_text": redact(text),
            "outputs_html": redact(html),
            "duration_s": self.duration_s,
            "state": self.state,
        }

    def _append(self, kind: str, parts: list[str], text: str) -> None:
        with self._lock:
            if self._sizes[kind] > _MAX_CHARACTERS:
                return
            self._sizes[kind] += len(text)
            parts.append(text if self._sizes[kind] <= _MAX_CHARACTERS else _TRUNCATED)


class Report:
    """The run's documents on disk."""

    def __init__(self, request: Request, cells: list[CellRecord], redact: Redact) -> None:
        self._request = request
        self._redact = redact
        self._cells = cells
        self._earlier: list[dict[str, Any]] = []

    def resume(self, earlier: list[dict[str, Any]]) -> None:
        """Take over the cells that ran before Python was restarted."""
        self._earlier = earlier

    def cells_json(self) -> list[dict[str, Any]]:
        """Return all cells, those of before a restart as they were."""
        done = len(self._earlier)
        return [*self._earlier, *(cell.to_json(self._redact) for cell in self._cells[done:])]

    def save_cells(self) -> None:
        """Write cells.json for the run's page."""
        _write(self._request.output_dir / "cells.json", self.cells_json())

    def save_result(
        self,
        *,
        exit_value: str | None,
        error: str | None,
        error_trace: str | None,
        task_values: dict[str, Any],
    ) -> None:
        """Write the result file; a run has succeeded if it has no error."""
        self.save_cells()
        result = {
            "state": "FAILED" if error is not None else "SUCCESS",
            "exit_value": exit_value,
            "error": None if error is None else self._redact(error),
            "error_trace": None if error_trace is None else self._redact(error_trace),
            "cells": self.cells_json(),
            "task_values": task_values,
        }
        _write(self._request.result_file, result)


def write_failure(request: Request, error: str) -> None:
    """Write the result of a run that never came to its first cell."""
    request.output_dir.mkdir(parents=True, exist_ok=True)
    Report(request, [], redact=lambda text: text).save_result(
        exit_value=None, error=error, error_trace=None, task_values={}
    )


def _write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(document), encoding="utf-8")
    partial.replace(path)
