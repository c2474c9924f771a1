"""Names the ways a notebook ends a cell on purpose.

They are no `Exception`s: a notebook's `except Exception` must not swallow them.
"""

__all__ = ["NotebookExit", "PythonRestart", "Terminated"]


class NotebookExit(BaseException):
    """The notebook called `dbutils.notebook.exit`."""

    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.value = value


class PythonRestart(BaseException):
    """The notebook asked for a fresh Python process."""


class Terminated(BaseException):
    """The workspace asked the run to stop."""
