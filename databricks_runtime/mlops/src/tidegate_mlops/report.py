"""Shows a stage's outcome and the log under its notebook cell."""

import base64
import html
import logging
from dataclasses import dataclass
from typing import Final

from tidegate_mlops.plan import StageResult

__all__ = ["NotebookFormatter", "StageReport"]

_SHOWN: Final = (
    "stage",
    "outcome",
    "duration_s",
    "files",
    "announced",
    "event_id",
    "error",
)  # the rest is in the page's head


class NotebookFormatter(logging.Formatter):
    """Writes a record's fields after its constant text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line per record."""
        fields = [f"{name}={getattr(record, name)}" for name in _SHOWN if hasattr(record, name)]
        return " ".join([super().format(record), *fields])


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """What a cell displays: one line, and the picture that the stage drew if it drew one."""

    result: StageResult
    figure: bytes | None

    def __repr__(self) -> str:
        """The line for consoles."""
        reason = f": {self.result.reason}" if self.result.reason else ""
        return f"{self.result.name.value} {self.result.outcome.value} in {self.result.duration_s:.1f} s{reason}"

    def _repr_html_(self) -> str:
        """The line and the picture for notebooks; the name is IPython's."""
        line = f"<p><b>{html.escape(self.result.name.value)}</b> {html.escape(repr(self).partition(' ')[2])}</p>"
        if self.figure is None:
            return line
        data = base64.b64encode(self.figure).decode()
        return f'{line}<img alt="quality of the model" style="max-width:100%" src="data:image/png;base64,{data}">'
