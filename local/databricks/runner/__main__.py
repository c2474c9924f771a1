"""Starts a run: `python -m runner REQUEST.json` in the notebook's folder, with the cluster's Python.

This first process only prepares: it leads a process group, hangs itself on the workspace's leash, starts the JVM,
makes the run's own Python environment and becomes the driver by `exec`, keeping its process id.
"""

import os
import shutil
import sys
import time
from pathlib import Path

from .environment import make_python, notebook_environment
from .handover import Handover, become_driver
from .jvm import JvmError, launch_jvm
from .leash import keep_leash, lead_own_group
from .reporting import write_failure
from .request import Request, RequestError, read_request


def main(argv: list[str]) -> int:
    """Prepare and become the driver; return only if that fails."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m runner REQUEST.json\n")
        return 2
    started_s = time.monotonic()
    request_file = Path(argv[0]).absolute()
    try:
        request = read_request(request_file)
    except RequestError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    try:
        _start(request, request_file, started_s)
    except OSError as error:
        write_failure(request, f"the runner could not start: {error}")
        return 1
    return 0


def _start(request: Request, request_file: Path, started_s: float) -> None:
    scratch = request.output_dir / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700, parents=True)  # it holds the account's key
    log = _log_everything(request.output_dir / "driver.log")
    leash = keep_leash(lead_own_group(), scratch)
    python = make_python(scratch / "env")
    environment = notebook_environment(request, inherited=os.environ, python=python, scratch=scratch)
    jvm, problem = None, ""
    try:
        jvm = launch_jvm(request, scratch=scratch, environment=environment, log=log)
    except (JvmError, OSError) as error:
        problem = str(error)
    become_driver(
        Handover(
            request_file=request_file,
            scratch=scratch,
            cluster_python=Path(sys.executable),
            leash=leash,
            jvm=jvm,
            jvm_problem=problem,
            started_s=started_s,
        ),
        python=python,
        environment=environment,
    )


def _log_everything(path: Path) -> int:
    """Send what this process and its children write to the driver's log; return the log's descriptor."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    return log


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
