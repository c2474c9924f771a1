"""Tests the set-up's decisions with stand-ins for Java, uv, Node and npm; nothing is downloaded."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from local.supervisor.folders import REPOSITORY

_TOOLS = (
    "sh", "awk", "cat", "cp", "cut", "date", "df", "dirname", "grep", "head", "ln", "ls", "mkdir", "mktemp", "mv",
    "pkill", "printf", "rm", "sed", "sha256sum", "shasum", "sleep", "sort", "tail", "tr", "env",
)  # fmt: skip
_INPUTS = (
    "local/setup/bootstrap.sh", "local/setup/fetch_flights.py", "local/azurite/package.json",
    "local/azurite/package-lock.json", "local/azurite/.npmrc", "local/spark/fetch_jars.py", "pyproject.toml",
    "locks/bootstrap.txt", "locks/node.txt", "locks/control-plane.txt", "locks/cluster.txt",
    "locks/cluster-release.txt", "locks/spark-jars.sha256", "local/databricks/runner/archive.py",
)  # fmt: skip

# One stand-in for every program that set-up calls: it makes what the real one would make, and writes down its call.
_STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case "$BREAK" in ?*) case "$0 $*" in *"$BREAK"*) echo "broken on purpose" >&2; exit 3 ;; esac ;; esac
case "$0 $*" in
    *"uv --version"*) echo "uv 99.0.0" ;;
    *"node --version"*) echo "v20.1.0" ;;
    *"node -p"*) echo "$0" ;;
    *" venv "*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python" ;;
    *"pip sync"*) [ -z "$OFFLINE" ] || { echo "$OFFLINE" >&2; exit 2; } ;;
    *"pip install"*) cp "$0" .venv/bin/tidegate ;;
    *"npm ci"*) mkdir -p node_modules/azurite ;;
    *"pip download"*) mkdir -p .tools/release-wheels.new ;;
    *runner.archive*) mkdir -p .tools/spark-cds ;;
    *fetch_jars*) mkdir -p .tools/spark-jars ;;
    *fetch_flights*) mkdir -p .tools/demo-data ;;
esac
"""
_JAVA = """#!/bin/sh
case "$*" in *--add-modules*) exit {code} ;; esac
echo 'openjdk version "{version}" 2025-01-01' >&2
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The part of a clone that set-up reads."""
    for name in _INPUTS:
        target = tmp_path / "a clone" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, target)
    return tmp_path / "a clone"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder of programs, the only one on PATH: the system's text tools and nothing else."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in (*_TOOLS, "basename"):
        if (found := shutil.which(name)) is not None:
            (folder / name).symlink_to(found)
    return folder


@pytest.fixture
def run(clone: Path, programs: Path, tmp_path: Path) -> Run:
    """Runs set-up in the clone."""
    (tmp_path / "no-jvms").mkdir()

    def bootstrap(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [shutil.which("sh") or "sh", "local/setup/bootstrap.sh", *arguments],
            cwd=clone,
            env={
                "PATH": str(programs),
                "HOME": str(tmp_path),
                "TIDEGATE_JVM_FOLDER": str(tmp_path / "no-jvms"),
                "CALLS": str(tmp_path / "calls"),
                "OFFLINE": "",
                "BREAK": "",
                **environ,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return bootstrap


def _install(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


def _install_everything(programs: Path) -> None:
    _install(programs, "java", _JAVA.format(version="17.0.15", code=0))
    for name in ("uv", "node", "npm"):
        _install(programs, name, _STAND_IN)


def test_a_missing_java_is_told_first_with_how_to_get_one(run: Run, clone: Path) -> None:
    done = run()

    assert done.returncode == 1
    assert "found no Java" in done.stderr
    for command in (
        "apt-get install openjdk-17-jre-headless",
        "dnf install java-21-openjdk-headless",
        "brew install openjdk@17",
    ):
        assert command in done.stderr
    assert not (clone / ".tools").exists()
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("version", "code", "told"),
    [
        ("1.8.0_292", 0, "found only Java 8"),
        ("11.0.2", 0, "found only Java 11"),
        ("17.0.1", 1, "without-jdk.incubator.vector"),
    ],
)
def test_a_java_that_cannot_run_spark_is_named(run: Run, programs: Path, version: str, code: int, told: str) -> None:
    _install(programs, "java", _JAVA.format(version=version, code=code))

    done = run("--check-java")

    assert done.returncode == 1
    assert told in done.stderr


@pytest.mark.parametrize("version", ["17.0.15", "21", "21.0.2"])
def test_a_fitting_java_passes(run: Run, programs: Path, version: str) -> None:
    _install(programs, "java", _JAVA.format(version=version, code=0))

    assert run("--check-java").returncode == 0


def test_java_home_wins_over_a_wrong_java_on_the_path(run: Run, programs: Path, tmp_path: Path) -> None:
    _install(programs, "java", _JAVA.format(version="11.0.2", code=0))
    (tmp_path / "jdk" / "bin").mkdir(parents=True)
    _install(tmp_path / "jdk" / "bin", "java", _JAVA.format(version="21.0.2", code=0))

    assert run("--check-java", JAVA_HOME=str(tmp_path / "jdk")).returncode == 0


def test_without_python_and_uv_one_sentence_says_what_to_install(run: Run, programs: Path) -> None:
    _install(programs, "java", _JAVA.format(version="17.0.15", code=0))

    done = run()

    assert done.returncode == 1
    assert "found neither uv nor a python3" in done.stderr


def test_a_finished_set_up_calls_nothing(run: Run, programs: Path, tmp_path: Path) -> None:
    _install_everything(programs)
    first = run()
    calls = (tmp_path / "calls").read_text()

    second = run("--verbose")

    assert first.returncode == 0, first.stderr
    assert "Set-up complete in" in first.stdout
    assert second.stdout == "Set-up is complete; nothing to do.\n"
    assert (tmp_path / "calls").read_text() == calls


@pytest.mark.parametrize(
    "words",
    [
        "error sending request for url",
        "ERROR: Could not find a version that satisfies the requirement uv==0.9.7 (from versions: none)",  # no retries
    ],
)
def test_an_unreachable_registry_is_told_and_a_repeated_run_goes_on_from_there(
    run: Run, programs: Path, tmp_path: Path, words: str
) -> None:
    _install_everything(programs)

    offline = run(OFFLINE=words)
    (tmp_path / "calls").write_text("")
    again = run()

    assert offline.returncode == 1
    assert "a package registry could not be reached" in offline.stderr
    assert "finished steps are kept" in offline.stderr
    assert again.returncode == 0, again.stderr
    assert "npm ci" not in (tmp_path / "calls").read_text()


@pytest.mark.parametrize(
    ("call", "step"),
    [("pip install", "Python 3.13"), ("npm ci", "Azurite"), ("pip sync", "Python 3.12"), ("fetch_jars", "Spark jars")],
)
def test_a_step_that_breaks_anywhere_fails_and_shows_the_end_of_its_log(
    run: Run, programs: Path, clone: Path, call: str, step: str
) -> None:
    _install_everything(programs)

    done = run(BREAK=call)

    assert done.returncode == 1
    assert f"Set-up: {step}" in done.stderr
    assert "broken on purpose" in done.stderr
    assert not (clone / ".tools" / "stamps" / "everything").exists()


def test_a_changed_lock_redoes_its_own_step_only(run: Run, programs: Path, clone: Path, tmp_path: Path) -> None:
    _install_everything(programs)
    run()
    (tmp_path / "calls").write_text("")

    with (clone / "locks" / "cluster.txt").open("a") as lock:
        lock.write("# changed\n")
    done = run()

    calls = (tmp_path / "calls").read_text()
    assert done.returncode == 0, done.stderr
    assert "pip sync --quiet --require-hashes --python .venv-cluster/bin/python locks/cluster.txt" in calls
    assert "control-plane.txt" not in calls
    assert "npm" not in calls


def test_a_lock_left_by_a_killed_set_up_is_taken_over(run: Run, programs: Path, clone: Path) -> None:
    _install_everything(programs)
    ended = subprocess.Popen(["true"])
    ended.wait()
    (clone / ".tools" / "setup.lock").mkdir(parents=True)
    (clone / ".tools" / "setup.lock" / "pid").write_text(str(ended.pid))

    done = run()

    assert done.returncode == 0, done.stderr
    assert not (clone / ".tools" / "setup.lock").exists()


def test_an_unknown_argument_is_refused(run: Run) -> None:
    done = run("--nonsense")

    assert done.returncode == 2
    assert "unknown argument '--nonsense'" in done.stderr


def test_the_script_names_no_registry() -> None:
    """Registries are configured where the user is, in the package managers' own files."""
    text = (REPOSITORY / "local" / "setup" / "bootstrap.sh").read_text()

    assert "http://" not in text
    assert "https://" not in text
    assert os.access(REPOSITORY / "local" / "setup" / "bootstrap.sh", os.R_OK)
