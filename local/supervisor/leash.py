"""Holds one service on a leash: when the other end lets go, the service and everything it started is gone.

Runs alone, with the standard library only: `python -I -S leash.py LOCK PID_FILE GRACE_S COMMAND...`, its standard
input being a pipe whose other end the supervisor holds. The kernel closes that pipe however the supervisor ends, so
this works after SIGKILL too, on Linux and macOS. The lock file is held shared while this process lives: whoever gets
it exclusively knows that no service is left.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import sys
import time

_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Run the command until it ends or the leash is dropped; return its exit code."""
    lock_path, pid_path, grace_s, command = arguments[0], arguments[1], float(arguments[2]), arguments[3:]
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    wake, wake_write = os.pipe()
    for end in (wake, wake_write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the command line's business
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # orphans of the service become our children, so that they can be found
    child = _start(command)
    with open(pid_path, "w") as file:  # noqa: PTH123 - pathlib would double this process's start
        file.write(str(child))
    code = _watch(child, wake)
    return _clear(child, code, grace_s)


def _start(command: list[str]) -> int:
    """Return the pid of the command, in a session and process group of its own."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # in case this very process is killed
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.execvp(command[0], command)  # noqa: S606 - no shell on purpose
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error}\n")
    os._exit(127)


def _watch(child: int, wake: int) -> int | None:
    """Wait until the command ends (return its exit code) or the leash is dropped (return None)."""
    while True:
        readable, _, _ = select.select([0, wake], [], [], 60)
        if wake in readable:
            signals = os.read(wake, 4096)
            if (code := _reap(child)) is not None:
                return code
            if signal.SIGTERM in signals:
                return None
        if 0 in readable and not os.read(0, 4096):
            return None


def _clear(child: int, code: int | None, grace_s: float) -> int:
    """Ask what is left of the service to end, kill what does not; return the service's exit code."""
    deadline = time.monotonic() + grace_s
    left = _descendants(os.getpid()) | {child}
    if code is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGTERM)
        while code is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            code = _reap(child)
        left |= _descendants(os.getpid())
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    left -= {child} if code is not None else set()  # reaped: its number may belong to somebody else by now
    for _ in range(40):
        left = (left & _alive()) | _descendants(os.getpid())
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        found = _reap(child)
        code = found if code is None else code
        if not left:
            break
        time.sleep(_POLL_S)
    return 137 if code is None else code


def _reap(child: int) -> int | None:
    """Collect every ended child; return the service's exit code if it was among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _processes() -> dict[int, int]:
    """Return the parent of each process on this machine, zombies left out."""
    parents: dict[int, int] = {}
    if os.path.exists("/proc/self/stat"):  # noqa: PTH110 - as above
        for name in os.listdir("/proc"):  # noqa: PTH208 - as above
            if name.isdigit():
                with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat") as file:  # noqa: PTH123
                    state, parent = file.read().rpartition(")")[2].split()[:2]
                    if state not in {"Z", "X"}:
                        parents[int(name)] = int(parent)
        return parents
    import subprocess

    rows = subprocess.run(["/bin/ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=False)
    for row in rows.stdout.splitlines():
        pid, parent, state = row.split()[:3]
        if not state.startswith("Z"):
            parents[int(pid)] = int(parent)
    return parents


def _alive() -> set[int]:
    return set(_processes())


def _descendants(root: int) -> set[int]:
    parents = _processes()
    found: set[int] = set()
    frontier = {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier and pid not in found}
        found |= frontier
    return found


def _prctl(option: int, value: int) -> None:
    """Set a process attribute where the kernel is Linux; elsewhere the pipe alone must do."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
