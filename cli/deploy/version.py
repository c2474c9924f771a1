"""Names a release after the sources that it is made of."""

import hashlib
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["NO_COMMIT", "RELEASE_PATTERN", "SOURCES", "release_version", "source_digest", "with_digest"]

RELEASE_PATTERN = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\+g[0-9a-f]{7,40}(\.d[0-9a-f]{8,40})?")
NO_COMMIT = "0000000"  # the commit of sources that come without git metadata
SOURCES = ("databricks_runtime", "notebooks", "job_templates", "locks/cluster-release.txt")
_SHA_LENGTH = 12
_DIGEST_LENGTH = 12
_NOT_SOURCES = {"__pycache__", "build", "dist", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


def release_version(root: Path) -> str:
    """Return `X.Y.Z+g<commit>`, followed by `.d<digest>` if the sources are not exactly that commit's."""
    with (root / "pyproject.toml").open("rb") as file:
        base = str(tomllib.load(file)["project"]["version"])
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        return f"{base}+g{NO_COMMIT}.d{source_digest(root)}"
    version = f"{base}+g{commit.strip()[:_SHA_LENGTH]}"
    changes = _git(root, "status", "--porcelain", "--untracked-files=all", "--", *SOURCES)
    return f"{version}.d{source_digest(root)}" if changes is None or changes.strip() else version


def with_digest(version: str, *contents: bytes) -> str:
    """Return the version of the same sources with other contents beside them."""
    digest = hashlib.sha256(version.encode())
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return f"{version.partition('.d')[0]}.d{digest.hexdigest()[:_DIGEST_LENGTH]}"


def source_digest(root: Path) -> str:
    """Return a digest over the names and contents of everything that a release is made of."""
    digest = hashlib.sha256()
    for path in _source_files(root):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:_DIGEST_LENGTH]


def _source_files(root: Path) -> Iterator[Path]:
    for name in SOURCES:
        source = root / name
        paths = sorted(source.rglob("*")) if source.is_dir() else [source]
        for path in paths:
            parts = set(path.relative_to(root).parts)
            if path.is_file() and not parts & _NOT_SOURCES and not any(part.endswith(".egg-info") for part in parts):
                yield path


def _git(root: Path, *arguments: str) -> str | None:
    """Return git's answer about this very folder, None if it is no repository of its own or git is missing."""
    try:
        top = subprocess.run(
            ["git", "rev-parse", "--show-toplevel"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        if Path(top).resolve() != root.resolve():
            return None  # unpacked inside somebody else's repository
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
