"""Implements the platform's line magics: %pip, %restart_python, and what must not be mixed with code."""

import importlib
import shlex
import sys
from pathlib import Path

from IPython.core.error import UsageError

from .dbutils.paths import RootedPaths
from .endings import PythonRestart
from .shell import DriverShell, stream_process

__all__ = ["PipError", "install_magics"]

_RESTART_NOTE = (
    "Note: you may need to restart the kernel using %restart_python or dbutils.library.restartPython() "
    "to use updated packages.\n"
)


class PipError(Exception):
    """pip ended with an error; its own words are in the cell's output."""


def install_magics(shell: DriverShell, paths: RootedPaths) -> None:
    """Register the magics with the shell, in the place of IPython's own."""

    def pip(line: str) -> None:
        """Run pip for this notebook only; its packages are seen at once."""
        run_pip(shell, shlex.split(line, comments=True), paths)

    def restart_python(line: str) -> None:  # noqa: ARG001
        """Go on with the next cell in a fresh Python process."""
        raise PythonRestart

    def run(line: str) -> None:
        """Refuse: %run needs a cell of its own."""
        raise UsageError(f"%run must be in a cell by itself, with nothing else: %run {line}")

    for name, function in (("pip", pip), ("restart_python", restart_python), ("run", run)):
        shell.magics_manager.register_function(function, magic_kind="line", magic_name=name)


def run_pip(shell: DriverShell, arguments: list[str], paths: RootedPaths) -> None:
    """Run pip in the environment of this run.

    Raises:
        PipError: pip failed, which fails the cell as on the platform.
    """
    mapped = [_on_disk(argument, paths) for argument in arguments]
    command = [sys.executable, "-m", "pip", *mapped]
    code = stream_process(command, shell.output)
    importlib.invalidate_caches()
    if code != 0:
        words = " ".join(["pip", *arguments])
        raise PipError(f"Command '{words}' returned non-zero exit status {code}.")
    if arguments[:1] in (["install"], ["uninstall"]):
        shell.output.write_text(_RESTART_NOTE)


def _on_disk(argument: str, paths: RootedPaths) -> str:
    """Return an argument whose platform path (`/Workspace/…`, `/Volumes/…`, `/dbfs/…`) is this machine's."""
    option, equals, value = argument.rpartition("=") if argument.startswith("--") else ("", "", argument)
    for root in ("/Workspace/", "/Volumes/", "/dbfs/"):
        if value.startswith(root) and not Path(value).exists():
            return f"{option}{equals}{paths.from_posix(value)}"
    return argument
