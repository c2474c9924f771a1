"""Finds the Java that Spark runs on.

Standard library only, so that set-up can ask before any package is installed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SUPPORTED_VERSIONS", "Java", "JavaNotFoundError", "find_java", "main"]

SUPPORTED_VERSIONS = (17, 21)  # what Spark 4.1 supports

# Spark starts every JVM with this module; a cut-down Java without it cannot run Spark.
_VECTOR_MODULE = "jdk.incubator.vector"
_PROBE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Java:
    """A Java installation that can run Spark."""

    home: Path
    executable: Path
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unfit:
    """A Java that was found and cannot be used, with the reason."""

    executable: Path
    reason: str


class JavaNotFoundError(Exception):
    """No Java on this machine can run Spark; the text says how to get one."""

    def __init__(self, *, unfit: tuple[str, ...], platform: str) -> None:
        super().__init__(unfit, platform)
        self.unfit = unfit
        self.platform = platform

    def __str__(self) -> str:
        found = f"found only {'; '.join(self.unfit)}" if self.unfit else "found none"
        return f"Spark needs Java 17 or 21, {found}: {_advice(self.platform)}"


def find_java(environ: Mapping[str, str] | None = None, *, platform: str = sys.platform) -> Java:
    """Return the first Java that can run Spark: JAVA_HOME, then PATH, then the usual places.

    Raises:
        JavaNotFoundError: There is none; its text names what was found instead and how to get a fitting one.
    """
    seen: set[Path] = set()
    unfit: list[str] = []
    for executable in _candidates(os.environ if environ is None else environ, platform):
        real = executable.resolve()
        if real in seen:
            continue
        seen.add(real)
        match _probe(executable):
            case Java() as java:
                return java
            case _Unfit() as other:
                unfit.append(f"{other.executable} ({other.reason})")
            case None:
                continue
    raise JavaNotFoundError(unfit=tuple(unfit), platform=platform)


def main(argv: list[str] | None = None) -> int:
    """Print the home of the Java to use; on failure print the advice and return 1."""
    argparse.ArgumentParser(prog="python -m local.spark.java", description=__doc__).parse_args(argv)
    try:
        java = find_java()
    except JavaNotFoundError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{java.home}\n")
    return 0


def _candidates(environ: Mapping[str, str], platform: str) -> Iterator[Path]:
    """Yield the existing `java` executables in the order of preference."""
    if home := environ.get("JAVA_HOME"):
        yield from _if_executable(Path(home) / "bin" / "java")
    if on_path := shutil.which("java", path=environ.get("PATH", os.defpath)):
        yield Path(on_path)
    user_home = Path(environ.get("HOME") or Path.home())
    patterns: list[tuple[Path, str]] = [
        (user_home / ".sdkman" / "candidates" / "java", "*/bin/java"),
        (user_home / ".jdks", "*/bin/java"),
    ]
    if platform == "darwin":
        patterns += [
            (user_home / "Library" / "Java" / "JavaVirtualMachines", "*/Contents/Home/bin/java"),
            (Path("/Library/Java/JavaVirtualMachines"), "*/Contents/Home/bin/java"),
            (Path("/opt/homebrew/opt"), "openjdk*/bin/java"),
            (Path("/usr/local/opt"), "openjdk*/bin/java"),
        ]
    else:
        patterns += [
            (Path("/usr/lib/jvm"), "*/bin/java"),
            (Path("/opt"), "*/bin/java"),
            (Path("/opt/java"), "*/bin/java"),
        ]
    for folder, pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            yield from _if_executable(path)


def _if_executable(path: Path) -> Iterator[Path]:
    if path.is_file() and os.access(path, os.X_OK):
        yield path


def _probe(executable: Path) -> Java | _Unfit | None:
    """Ask an executable who it is; None if it is no Java at all (macOS has a stub of that name)."""
    properties = _properties(executable, [])
    if properties is None:
        return None
    version = _major(properties.get("java.version", ""))
    if version not in SUPPORTED_VERSIONS:
        return _Unfit(executable=executable, reason=f"version {properties.get('java.version', 'unknown')}")
    if _properties(executable, [f"--add-modules={_VECTOR_MODULE}"]) is None:
        return _Unfit(executable=executable, reason=f"lacks the module {_VECTOR_MODULE}")
    return Java(
        home=Path(properties.get("java.home", executable.parent.parent)), executable=executable, version=version
    )


def _properties(executable: Path, options: list[str]) -> dict[str, str] | None:
    command = [str(executable), *options, "-XshowSettings:properties", "-version"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return dict(re.findall(r"^\s+(java\.\S+) = (.*)$", done.stderr, flags=re.MULTILINE))


def _major(version: str) -> int:
    """Return the number that people call a Java by: 8 for "1.8.0_292", 17 for "17.0.15"."""
    parts = re.findall(r"\d+", version)
    if not parts:
        return 0
    return int(parts[1]) if parts[0] == "1" and len(parts) > 1 else int(parts[0])


def _advice(platform: str) -> str:
    if platform == "darwin":
        return "install it with `brew install openjdk@17`, or set JAVA_HOME to one you have."
    return (
        "install it with `sudo apt-get install openjdk-17-jre-headless` (Debian, Ubuntu) or "
        "`sudo dnf install java-21-openjdk-headless` (Fedora), or set JAVA_HOME to one you have."
    )


if __name__ == "__main__":
    sys.exit(main())
