"""The IPython shell that cells run in; what they put out goes to the cell that runs."""

import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TextIO

from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

from .endings import NotebookExit, PythonRestart, Terminated
from .reporting import CellRecord

__all__ = ["CellOutput", "DriverShell", "make_shell"]

_SILENT = (NotebookExit, PythonRestart, Terminated)


class CellOutput:
    """Where output goes now: to the cell that runs, and to the driver's log."""

    def __init__(self, log: TextIO, redact: Callable[[str], str]) -> None:
        self._log = log
        self._redact = redact
        self.cell: CellRecord | None = None

    def write_text(self, text: str) -> None:
        """Add plain output."""
        if self.cell is not None:
            self.cell.write_text(text)
        self._log.write(self._redact(text))
        self._log.flush()

    def write_html(self, html: str) -> None:
        """Add rich output; the log does without."""
        if self.cell is not None:
            self.cell.write_html(html)

    def publish(self, data: dict[str, Any]) -> None:
        """Add the richest form of a MIME bundle."""
        if "image/png" in data:
            self.write_html(f'<img alt="figure" src="data:image/png;base64,{_one_line(data["image/png"])}"/>\n')
        elif "image/svg+xml" in data:
            self.write_html(f"{data['image/svg+xml']}\n")
        elif "text/html" in data:
            self.write_html(f"{data['text/html']}\n")
        elif "text/plain" in data:
            self.write_text(f"{data['text/plain']}\n")


class CellStream(io.TextIOBase):
    """Stands for stdout or stderr of the notebook's Python."""

    def __init__(self, output: CellOutput, descriptor: int) -> None:
        super().__init__()
        self._output = output
        self._descriptor = descriptor

    encoding = "utf-8"
    errors = "replace"

    def write(self, text: str) -> int:
        """Add text to the running cell."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._output.write_text(text)
        return len(text)

    def writable(self) -> bool:
        """Say yes."""
        return True

    def isatty(self) -> bool:
        """Say no, so that nobody draws progress bars with carriage returns."""
        return False

    def fileno(self) -> int:
        """Return the descriptor for native code; what it writes there ends in the driver's log."""
        return self._descriptor


class _Publisher(DisplayPublisher):
    def publish(self, data: dict[str, Any], *_: Any, **__: Any) -> None:
        DriverShell.output.publish(data)


class _Hook(DisplayHook):
    def write_output_prompt(self) -> None:
        """Write none, as the platform."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        DriverShell.output.publish(format_dict)


class _Compiler(CachingCompiler):
    """Names code as the platform does, so that a trace says `File <command-3>, line 1`."""

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:  # noqa: ARG002
        return f"<command-{number}>"

    def format_code_name(self, name: str) -> tuple[str, str] | None:
        return ("File", name) if name.startswith("<command-") else None


class DriverShell(InteractiveShell):
    """An IPython shell without a terminal, a history file or a profile."""

    display_pub_class = Type(_Publisher)
    displayhook_class = Type(_Hook)
    compiler_class = Type(_Compiler)
    output: CellOutput
    last_trace: str = ""

    def showtraceback(self, *arguments: Any, **keywords: Any) -> None:
        """Show a failure, and no trace of what ends a cell on purpose."""
        if isinstance(sys.exc_info()[1], _SILENT):
            return
        super().showtraceback(*arguments, **keywords)  # type: ignore[no-untyped-call]

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:  # noqa: ARG002
        self.last_trace = self.InteractiveTB.stb2text(stb)  # type: ignore[no-untyped-call]
        self.output.write_text(f"{self.last_trace}\n")

    def enable_gui(self, gui: str | None = None) -> None:
        """Do nothing: there is no window to show anything in."""

    def system(self, cmd: str) -> None:
        """Run `!command` with its output in the cell."""
        expanded = self.var_expand(cmd, depth=1)  # type: ignore[no-untyped-call]
        self.user_ns["_exit_code"] = stream_process(["/bin/bash", "-c", expanded], self.output)


def stream_process(command: list[str], output: CellOutput) -> int:
    """Run a program, showing its output as it comes; return its exit code."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            output.write_text(line)
    return process.returncode


def make_shell(output: CellOutput, namespace: dict[str, Any]) -> DriverShell:
    """Create the one shell of this process and route stdout and stderr through it."""
    config = Config()
    config.InteractiveShell.colors = "NoColor"
    config.InteractiveShell.xmode = "Context"
    config.HistoryManager.enabled = False
    DriverShell.output = output
    shell = DriverShell.instance(config=config, user_ns=namespace)
    sys.stdout, sys.stderr = CellStream(output, 1), CellStream(output, 2)
    return shell


def _one_line(base64_text: Any) -> str:
    text = base64_text.decode("ascii") if isinstance(base64_text, bytes) else str(base64_text)
    return "".join(text.split())
