"""Builds our two wheels, byte for byte the same from the same sources, and collects the third-party ones."""

import hashlib
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cli.failures import CommandError

__all__ = ["OUR_PROJECTS", "Wheel", "build_wheels", "third_party_wheels"]

OUR_PROJECTS = ("databricks_runtime/ml", "databricks_runtime/mlops")
_SOURCE_DATE_EPOCH = "1577836800"  # 2020-01-01: file times in a wheel say nothing about its content


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One wheel file."""

    name: str
    content: bytes

    @property
    def sha256(self) -> str:
        """The hash that the notebook's %pip verifies."""
        return hashlib.sha256(self.content).hexdigest()


def build_wheels(root: Path, version: str) -> tuple[Wheel, ...]:
    """Return our wheels under the release's version."""
    with ThreadPoolExecutor(len(OUR_PROJECTS)) as pool:
        return tuple(pool.map(lambda project: _build(root / project, version), OUR_PROJECTS))


def third_party_wheels(folder: Path) -> tuple[Wheel, ...]:
    """Return the wheels that set-up fetched, by the hashes of locks/cluster-release.txt."""
    wheels = tuple(Wheel(name=path.name, content=path.read_bytes()) for path in sorted(folder.glob("*.whl")))
    if not wheels:
        raise CommandError("the wheels that a release carries are missing; run `make setup`")
    return wheels


def _build(project: Path, version: str) -> Wheel:
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "TIDEGATE_VERSION": version, "SOURCE_DATE_EPOCH": _SOURCE_DATE_EPOCH}
        environ.pop("PYTHONPATH", None)
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
        done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, check=False)
        built = sorted(Path(folder).glob("*.whl"))
        if done.returncode or len(built) != 1:
            raise CommandError(f"{project.name} could not be built:\n{(done.stderr or done.stdout).strip()[-2000:]}")
        return Wheel(name=built[0].name, content=built[0].read_bytes())
