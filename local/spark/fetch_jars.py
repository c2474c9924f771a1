"""Fetches the jars that Spark needs beside PySpark, verified against a committed list.

Run by the control plane's Python (standard library only): `python -m local.spark.fetch_jars --into .tools/spark-jars`.
The resolver is the Ivy that PySpark carries; it sees the central Maven repository only, never a local one, because a
half-filled local repository makes Ivy fail on jars that it believes to have.
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from local.spark.java import JavaNotFoundError, find_java

__all__ = ["FetchError", "Jar", "fetch_jars", "main", "read_lock"]

# What the cluster side needs that PySpark lacks: abfss:// paths and Delta tables.
ROOTS = ("org.apache.hadoop:hadoop-azure:3.4.2", "io.delta:delta-spark_4.1_2.13:4.1.0")

# Shipped inside PySpark in newer versions, which must win.
_SHIPPED_WITH_SPARK = (
    ("org.apache.spark", "*"),
    ("org.scala-lang", "*"),
    ("org.apache.logging.log4j", "*"),
    ("org.slf4j", "*"),
    ("org.apache.httpcomponents", "*"),
    ("commons-codec", "*"),
    ("commons-logging", "*"),
    ("com.google.code.findbugs", "*"),
)

_REPOSITORY = Path(__file__).resolve().parents[2]
_LOCK = _REPOSITORY / "locks" / "spark-jars.sha256"
_PATTERN = "[organisation]_[artifact]-[revision].[ext]"
_JAR_NAME = re.compile(r"(?P<organisation>[^_]+)_(?P<name>.+?)-(?P<revision>\d[^-]*)\.jar")
_ATTEMPTS = 3

Say = Callable[[str], None]


class FetchError(Exception):
    """The jars could not be made available; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """One line of the committed list."""

    file_name: str
    sha256: str

    def __post_init__(self) -> None:
        if not _JAR_NAME.fullmatch(self.file_name) or not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise FetchError(f"{_LOCK.name} has a bad line for {self.file_name!r}: expected '<sha256>  <jar>'")

    @property
    def coordinates(self) -> str:
        """The jar as `organisation:name:revision`."""
        return _JAR_NAME.sub(r"\g<organisation>:\g<name>:\g<revision>", self.file_name)


def read_lock(lock: Path = _LOCK) -> tuple[Jar, ...]:
    """Return the committed list (the format of `sha256sum`)."""
    pairs = (line.split() for line in lock.read_text(encoding="utf-8").splitlines() if line.strip())
    return tuple(Jar(file_name=name, sha256=digest) for digest, name in pairs)


def fetch_jars(into: Path, *, pyspark_jars: Path, say: Say, lock: Path = _LOCK, relock: bool = False) -> None:
    """Fill `into` with exactly the jars of the list; harmless to repeat, resumes where it was interrupted.

    What Ivy has fetched is kept beside `into` until the folder is complete; the folder itself appears by one rename,
    so whoever sees it sees all of it.

    Raises:
        FetchError: Java is missing, the repository is unreachable, or a file is not the one in the list.
    """
    with _only_one(into):
        if not relock and into.is_dir() and not _differences(into, read_lock(lock)):
            say(f"spark jars: {len(read_lock(lock))} present and verified")
            return
        cache, fresh = _beside(into, "partial"), _beside(into, "new")
        shutil.rmtree(fresh, ignore_errors=True)
        jars = () if relock else read_lock(lock)
        say(f"spark jars: fetching {len(jars) or 'and resolving'} with Spark's Ivy")
        _run_ivy(_Resolution(jars=jars, cache=cache, into=fresh), pyspark_jars=pyspark_jars, say=say)
        if relock:
            _write_lock(fresh, lock)
        elif problems := _differences(fresh, jars):
            shutil.rmtree(cache, ignore_errors=True)  # do not meet the same bad file again
            raise FetchError(f"the fetched jars are not those of {lock.name}: {'; '.join(problems)}; nothing was kept")
        shutil.rmtree(into, ignore_errors=True)
        fresh.rename(into)
        shutil.rmtree(cache, ignore_errors=True)
        say(f"spark jars: {len(list(into.iterdir()))} verified in {into}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resolution:
    """One call of Ivy: exactly these jars, or (empty) the roots with all that they need."""

    jars: tuple[Jar, ...]
    cache: Path
    into: Path

    def settings(self) -> str:
        # A locked jar is asked for by name, so its POM (and the parents of that) need not be fetched.
        use_poms = "false" if self.jars else "true"
        return f"""<ivysettings>
  <settings defaultResolver="central"/>
  <timeout-constraints>
    <timeout-constraint name="patient" connectionTimeout="15000" readTimeout="60000"/>
  </timeout-constraints>
  <resolvers>
    <ibiblio name="central" m2compatible="true" usepoms="{use_poms}" timeoutConstraint="patient"/>
  </resolvers>
</ivysettings>
"""

    def module(self) -> str:
        transitive = "false" if self.jars else "true"
        wanted = [jar.coordinates for jar in self.jars] or list(ROOTS)
        dependencies = "\n".join(
            f'    <dependency org="{org}" name="{name}" rev="{rev}" conf="default->default" transitive="{transitive}"/>'
            for org, name, rev in (coordinates.split(":") for coordinates in wanted)
        )
        excludes = (
            ""
            if self.jars
            else "\n".join(f'    <exclude org="{org}" module="{module}"/>' for org, module in _SHIPPED_WITH_SPARK)
        )
        return f"""<ivy-module version="2.0">
  <info organisation="tidegate" module="spark-jars"/>
  <configurations><conf name="default"/></configurations>
  <dependencies>
{dependencies}
{excludes}
  </dependencies>
</ivy-module>
"""


def _run_ivy(resolution: _Resolution, *, pyspark_jars: Path, say: Say) -> None:
    try:
        java = find_java()
    except JavaNotFoundError as error:
        raise FetchError(str(error)) from error
    resolution.cache.mkdir(parents=True, exist_ok=True)
    settings, module = resolution.cache / "settings.xml", resolution.cache / "ivy.xml"
    settings.write_text(resolution.settings(), encoding="utf-8")
    module.write_text(resolution.module(), encoding="utf-8")
    command = [
        str(java.executable),
        "-Xmx256m",
        *_proxy_options(os.environ),
        *("-cp", f"{pyspark_jars}/*", "org.apache.ivy.Main"),
        *("-settings", str(settings), "-ivy", str(module), "-cache", str(resolution.cache / "ivy")),
        *("-types", "jar", "bundle", "-retrieve", f"{resolution.into}/{_PATTERN}"),
    ]
    tail: list[str] = []
    for attempt in range(1, _ATTEMPTS + 1):
        if attempt > 1:
            say(f"spark jars: resuming, attempt {attempt} of {_ATTEMPTS}")
        code, tail = _follow(command, total=len(resolution.jars), say=say)
        if code == 0:
            return
    raise FetchError(
        "the central Maven repository could not be reached or lacks a jar: check the network (HTTPS_PROXY is honoured) "
        "and run the same command again, what was fetched is kept.\nThe last lines of Ivy:\n" + "\n".join(tail)
    )


def _follow(command: Sequence[str], *, total: int, say: Say) -> tuple[int, list[str]]:
    """Run Ivy, say one line a jar; return its exit code and its last lines of substance."""
    tail: list[str] = []
    done = 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
    ) as ivy:
        for line in ivy.stdout or ():
            if match := re.search(r"\[SUCCESSFUL ] .*!(\S+\.jar)", line):
                done += 1
                say(f"spark jars: {done}{f' of {total}' if total else ''} {match[1]}")
            elif line.strip(" .\n") and not line.startswith("\t\t=="):
                tail = [*tail[-14:], line.rstrip()[:300]]
    return ivy.returncode, tail


def _proxy_options(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield Java's form of HTTPS_PROXY, which it does not read itself."""
    proxy = urlsplit(environ.get("HTTPS_PROXY") or environ.get("https_proxy") or "")
    if proxy.hostname:
        yield f"-Dhttps.proxyHost={proxy.hostname}"
        yield f"-Dhttps.proxyPort={proxy.port or 80}"


def _differences(folder: Path, jars: Sequence[Jar]) -> list[str]:
    """Return what keeps a folder from being exactly the list."""
    wanted = {jar.file_name: jar.sha256 for jar in jars}
    present = {path.name: path for path in folder.glob("*.jar")} if folder.is_dir() else {}
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - present.keys())]
    problems += [f"{name} is not in the list" for name in sorted(present.keys() - wanted.keys())]
    problems += [
        f"{name} has sha256 {found}, expected {wanted[name]}"
        for name in sorted(wanted.keys() & present.keys())
        if (found := _sha256(present[name])) != wanted[name]
    ]
    return problems


def _write_lock(folder: Path, lock: Path) -> None:
    lines = [f"{_sha256(path)}  {path.name}\n" for path in sorted(folder.glob("*.jar"))]
    lock.write_text("".join(lines), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _beside(into: Path, suffix: str) -> Path:
    return into.with_name(f"{into.name}.{suffix}")


@contextmanager
def _only_one(into: Path) -> Iterator[None]:
    """Let two set-ups of the same checkout run one after the other; the kernel frees the lock of a dead one."""
    into.parent.mkdir(parents=True, exist_ok=True)
    with _beside(into, "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _pyspark_jars(environment: Path) -> Path:
    for folder in environment.glob("lib/python3*/site-packages/pyspark/jars"):
        return folder
    raise FetchError(f"no PySpark in {environment}: set up the cluster environment first (locks/cluster.txt)")


def main(argv: list[str] | None = None) -> int:
    """Fetch the jars; return 1 with a sentence on failure."""
    parser = argparse.ArgumentParser(prog="python -m local.spark.fetch_jars", description=__doc__)
    parser.add_argument("--into", type=Path, required=True, help="folder that shall hold the jars")
    parser.add_argument("--cluster-env", type=Path, default=_REPOSITORY / ".venv-cluster", help="where PySpark is")
    parser.add_argument("--relock", action="store_true", help="resolve anew and rewrite the committed list")
    options = parser.parse_args(argv)

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    try:
        fetch_jars(
            options.into.absolute(), pyspark_jars=_pyspark_jars(options.cluster_env), say=say, relock=options.relock
        )
    except FetchError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
