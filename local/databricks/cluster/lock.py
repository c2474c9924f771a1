"""Compiles the two lock files of the cluster side from the runtime's own package list.

`python -m local.databricks.cluster.lock` writes `locks/cluster.txt` (the environment that stands for the runtime) and
`locks/cluster-release.txt` (what a release ships as wheels, because the runtime lacks it).
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["DEPARTURES", "compile_locks", "main", "pins"]

# Where the local environment departs from the runtime's list: name to version, each with its reason.
DEPARTURES = {
    "psutil": "5.9.8",  # the runtime's 5.9.0 has no wheel for Python 3.12, and set-up must not need a compiler
}

_HERE = Path(__file__).resolve().parent
_LOCKS = _HERE.parents[2] / "locks"
_RUNTIME = _HERE / "runtime-18.x-cpu-ml.txt"
_OPTIONS = (
    *("--python-version", "3.12", "--universal", "--generate-hashes"),
    *("--only-binary", ":all:", "--no-binary", "pyspark"),  # PySpark is pure Python and has no wheel
    *("--no-emit-index-url", "--no-annotate", "--no-header", "--quiet"),
)


def pins(text: str) -> dict[str, str]:
    r"""Return the `name==version` lines of a requirements text.

    >>> pins("# a comment\nabsl-py==2.3.1\ncffi==1.17.1 ; sys_platform == 'x' --hash=sha256:0")
    {'absl-py': '2.3.1', 'cffi': '1.17.1'}
    """
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, flags=re.MULTILINE))


def compile_locks(uv: str, *, into: Path = _LOCKS) -> None:
    """Write both lock files into a folder; unchanged if nothing has to change."""
    runtime = pins(_RUNTIME.read_text(encoding="utf-8")) | DEPARTURES
    cluster_lock, release_lock = into / "cluster.txt", into / "cluster-release.txt"
    _compile(uv, source=_HERE / "requirements.in", constraints=runtime, into=cluster_lock, leave_out=())
    present = pins(cluster_lock.read_text(encoding="utf-8"))
    # The notebook installs with --no-deps, so whatever the cluster has must be neither shipped nor replaced.
    _compile(
        uv,
        source=_HERE / "release.in",
        constraints=runtime | present,
        into=release_lock,
        leave_out=tuple(sorted(present)),
    )


def _compile(uv: str, *, source: Path, constraints: dict[str, str], into: Path, leave_out: tuple[str, ...]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{name}=={version}\n" for name, version in constraints.items()))
        file.flush()
        skipped = [part for name in leave_out for part in ("--no-emit-package", name)]
        command = [uv, "pip", "compile", *_OPTIONS, "--constraints", file.name, *skipped, str(source), "-o", str(into)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main(argv: list[str] | None = None) -> int:
    """Compile the locks; uv's own message says what does not resolve."""
    parser = argparse.ArgumentParser(prog="python -m local.databricks.cluster.lock", description=__doc__)
    parser.add_argument("--uv", default="uv", help="the uv to compile with")
    options = parser.parse_args(argv)
    try:
        compile_locks(options.uv)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    return 0


if __name__ == "__main__":
    sys.exit(main())
