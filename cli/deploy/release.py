"""Assembles a release: the files of one immutable folder in the workspace, and the order that makes it safe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.deploy.environment import Target
from cli.deploy.wheels import Wheel
from cli.failures import CommandError

__all__ = ["ENVIRONMENT", "REQUIREMENTS", "Release", "ReleaseFile", "assemble", "folder_of"]

REQUIREMENTS = "requirements.txt"  # written last: a release without it is not there yet
ENVIRONMENT = "environment.json"
_NOTEBOOK_HEADER = b"# Databricks notebook source"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFile:
    """One file; `path` is relative to the release's folder, a notebook's without its suffix."""

    path: str
    content: bytes
    is_notebook: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Everything that a release's folder holds."""

    version: str
    folder: str
    files: tuple[ReleaseFile, ...]  # in any order
    requirements: ReleaseFile  # after all of them


def folder_of(environment: str, version: str) -> str:
    """Return the workspace path of a release."""
    return f"/Tidegate/{environment}/releases/{version}"


def assemble(root: Path, target: Target, version: str, wheels: Sequence[Wheel]) -> Release:
    """Return the release of these sources and wheels for a target."""
    ordered = sorted(wheels, key=lambda wheel: wheel.name)
    # Notebooks run in the folder beside this one, here and on Databricks: hence the "..".
    lines = [f"../wheels/{wheel.name} --hash=sha256:{wheel.sha256}" for wheel in ordered]
    return Release(
        version=version,
        folder=folder_of(target.environment, version),
        files=(
            *_notebooks(root / "notebooks"),
            *(ReleaseFile(path=f"wheels/{wheel.name}", content=wheel.content) for wheel in ordered),
            ReleaseFile(path=ENVIRONMENT, content=target.environment_json(version)),
        ),
        requirements=ReleaseFile(path=REQUIREMENTS, content=("\n".join(lines) + "\n").encode()),
    )


def _notebooks(folder: Path) -> list[ReleaseFile]:
    notebooks = []
    for path in sorted(folder.glob("*.py")):
        content = path.read_bytes()
        if not content.startswith(_NOTEBOOK_HEADER):
            raise CommandError(
                f"{path.name} is no source-format notebook: it must open with {_NOTEBOOK_HEADER.decode()!r}"
            )
        notebooks.append(ReleaseFile(path=f"notebooks/{path.stem}", content=content, is_notebook=True))
    if not notebooks:
        raise CommandError(f"there is no notebook in {folder.name}/")
    return notebooks
