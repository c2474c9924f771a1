"""Makes sure that nothing of a run outlives it, however its processes die.

Two shells of a few kilobytes stand guard in sessions of their own. One reads a pipe whose only writer is the runner:
when the runner ends, by whatever signal, the shell sees the end of the file, kills the runner's process group (the JVM
and whatever the notebook started) and removes its scratch folder. The other reads the pipe that the workspace holds
open on the runner's standard input: when the workspace dies, it kills the group, and the first cleans up.
"""

import os
import stat
import subprocess
from pathlib import Path

__all__ = ["keep_leash", "lead_own_group"]

_GUARD_RUNNER = """
trap '' TERM INT HUP
while read -r _; do :; done
kill -s KILL -- "-$1" 2>/dev/null
[ -z "$3" ] || kill -s KILL "$3" 2>/dev/null
rm -rf -- "$2" || { sleep 1; rm -rf -- "$2"; }
"""
_GUARD_WORKSPACE = """
trap '' TERM INT HUP
while read -r _; do :; done
kill -s KILL -- "-$1" 2>/dev/null
"""


def lead_own_group() -> int:
    """Return the id of a process group that holds this process and its descendants only."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    return os.getpid()


def keep_leash(group: int, scratch: Path) -> int:
    """Start the guards; return the descriptor that must stay open in this process, and in no other, for life.

    The standard input is read-only /dev/null afterwards, so a child of the notebook cannot take the leash.
    """
    workspace_guard = ""
    if _is_pipe(0):
        workspace_guard = str(_guard(_GUARD_WORKSPACE, 0, str(group)))
    read_end, write_end = os.pipe()
    _guard(_GUARD_RUNNER, read_end, str(group), str(scratch), workspace_guard)
    os.close(read_end)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    return write_end


def _guard(script: str, stdin: int, *arguments: str) -> int:
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "guard", *arguments],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"PATH": os.defpath},
        start_new_session=True,
    ).pid


def _is_pipe(descriptor: int) -> bool:
    """A run by hand has a terminal or /dev/null there, which is no leash."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
