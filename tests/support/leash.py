"""Starts modules of this repository as processes that end with the one that started them, SIGKILL included."""

import sys

__all__ = ["leashed_command"]

# The pipe on standard input closes however the process that holds its other end comes to an end.
_BOOT = (
    "import os,sys,threading,runpy\n"
    "def watch():\n"
    "    while os.read(0,1): pass\n"
    "    os._exit(9)\n"
    "threading.Thread(target=watch,daemon=True).start()\n"
    "module=sys.argv.pop(1)\n"
    "runpy.run_module(module,run_name='__main__',alter_sys=True)\n"
)


def leashed_command(module: str, *arguments: str) -> list[str]:
    """Return a command that runs a module until its standard input, to be opened as a pipe, is closed."""
    return [sys.executable, "-c", _BOOT, module, *arguments]
