"""Checks that Spark's jars are exactly the committed ones, however the fetching goes."""

import hashlib
import os
from pathlib import Path

import pytest

from local.spark.fetch_jars import FetchError, Jar, fetch_jars, read_lock

# Stands for the JVM with Ivy in it: answers what the Java finder asks, and "downloads" from a folder.
_JAVA = """#!/bin/sh
case "$*" in
  *-XshowSettings*) printf '    java.home = /java\\n    java.version = 17.0.1\\n' >&2; exit 0 ;;
esac
echo run >> '{calls}'
[ -e '{source}' ] || {{ echo 'Server access error: no network'; exit 1; }}
for last in "$@"; do :; done
into=$(dirname "$last")
mkdir -p "$into" && cp '{source}'/*.jar "$into"
echo '        [SUCCESSFUL ] org.example#thing;1.0!thing.jar (1ms)'
"""


class _Repository:
    """A central repository that may be away, and the place that jars are fetched into."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source = root / "source"
        self.calls = root / "calls"
        self.into = root / "tools" / "jars"
        self.lock = root / "jars.sha256"
        self.said: list[str] = []
        java = root / "java-home" / "bin" / "java"
        java.parent.mkdir(parents=True)
        java.write_text(_JAVA.format(calls=self.calls, source=self.source), encoding="utf-8")
        java.chmod(0o755)
        monkeypatch.setenv("JAVA_HOME", str(java.parent.parent))
        monkeypatch.setenv("PATH", os.defpath)

    def offer(self, content: bytes) -> None:
        """Put a jar into the repository."""
        self.source.mkdir(exist_ok=True)
        (self.source / "org.example_thing-1.0.jar").write_bytes(content)

    def expect(self, content: bytes) -> None:
        """Commit a list with that jar."""
        self.lock.write_text(f"{hashlib.sha256(content).hexdigest()}  org.example_thing-1.0.jar\n", encoding="utf-8")

    def fetch(self) -> None:
        """Do what set-up does."""
        fetch_jars(self.into, pyspark_jars=Path("/nowhere"), say=self.said.append, lock=self.lock)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Repository:
    return _Repository(tmp_path, monkeypatch)


def test_jars_are_fetched_once_with_progress(repository: _Repository) -> None:
    """A repeated set-up asks nobody."""
    repository.offer(b"good")
    repository.expect(b"good")

    repository.fetch()
    repository.fetch()

    assert (repository.into / "org.example_thing-1.0.jar").read_bytes() == b"good"
    assert repository.calls.read_text() == "run\n"
    assert "spark jars: 1 of 1 thing.jar" in repository.said
    assert repository.said[-1] == "spark jars: 1 present and verified"


def test_a_file_that_is_not_the_committed_one_is_refused(repository: _Repository) -> None:
    """Nothing of a tampered download is kept."""
    repository.offer(b"evil")
    repository.expect(b"good")

    with pytest.raises(FetchError, match=r"org\.example_thing-1\.0\.jar has sha256"):
        repository.fetch()

    assert not repository.into.exists()


def test_a_damaged_folder_is_fetched_again(repository: _Repository) -> None:
    """A half-written jar of an interrupted copy is found by its digest."""
    repository.offer(b"good")
    repository.expect(b"good")
    repository.fetch()
    (repository.into / "org.example_thing-1.0.jar").write_bytes(b"half")

    repository.fetch()

    assert (repository.into / "org.example_thing-1.0.jar").read_bytes() == b"good"


def test_an_unreachable_repository_is_explained_and_can_be_tried_again(repository: _Repository) -> None:
    """The message says what to do, and the next try goes on."""
    repository.expect(b"good")

    with pytest.raises(FetchError, match=r"could not be reached .*check the network.*run the same command again"):
        repository.fetch()
    repository.offer(b"good")
    repository.fetch()

    assert (repository.into / "org.example_thing-1.0.jar").is_file()


def test_the_committed_list_names_what_spark_needs() -> None:
    """The list is what the fetcher asks for, so its names must be coordinates."""
    coordinates = [jar.coordinates for jar in read_lock()]

    assert "org.apache.hadoop:hadoop-azure:3.4.2" in coordinates
    assert "io.delta:delta-spark_4.1_2.13:4.1.0" in coordinates


def test_a_bad_line_is_refused() -> None:
    """A typo in the list is not a jar."""
    with pytest.raises(FetchError, match="bad line"):
        Jar(file_name="../escape.jar", sha256="0" * 64)
