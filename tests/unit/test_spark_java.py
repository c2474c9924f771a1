"""Checks that a fitting Java is found, and that a missing one is explained."""

from pathlib import Path

import pytest

from local.spark.java import JavaNotFoundError, find_java

_SCRIPT = """#!/bin/sh
for option in "$@"; do
  case "$option" in --add-modules=*) {modules} ;; esac
done
printf '    java.home = %s\\n    java.version = %s\\n' '{home}' '{version}' >&2
"""


def _make_java(home: Path, version: str, *, whole: bool = True) -> Path:
    executable = home / "bin" / "java"
    executable.parent.mkdir(parents=True)
    script = _SCRIPT.format(home=home, version=version, modules=":" if whole else "exit 1")
    executable.write_text(script, encoding="utf-8")
    executable.chmod(0o755)
    return executable


def _environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "nothing")} | more


def test_java_home_wins_over_the_path(tmp_path: Path) -> None:
    """Whoever sets JAVA_HOME means it."""
    _make_java(tmp_path / "a", "21.0.4")
    on_path = _make_java(tmp_path / "b", "17.0.15")

    java = find_java(_environment(tmp_path, JAVA_HOME=str(tmp_path / "a"), PATH=str(on_path.parent)))

    assert (java.home, java.version) == (tmp_path / "a", 21)


def test_a_java_that_does_not_fit_is_passed_over(tmp_path: Path) -> None:
    """An old JAVA_HOME must not keep a good Java on the path from being used."""
    _make_java(tmp_path / "old", "1.8.0_292")
    on_path = _make_java(tmp_path / "good", "17.0.15")

    java = find_java(_environment(tmp_path, JAVA_HOME=str(tmp_path / "old"), PATH=str(on_path.parent)))

    assert java.executable == on_path


def test_the_message_says_what_was_found_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer without Java reads one sentence and knows the command."""
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))  # the usual places of this machine
    _make_java(tmp_path / "old", "11.0.2")
    _make_java(tmp_path / "cut", "17.0.9", whole=False)

    with pytest.raises(JavaNotFoundError) as refusal:
        find_java(
            _environment(tmp_path, JAVA_HOME=str(tmp_path / "old"), PATH=str(tmp_path / "cut" / "bin")),
            platform="linux",
        )

    text = str(refusal.value)
    assert "Java 17 or 21" in text
    assert "(version 11.0.2)" in text
    assert "(lacks the module jdk.incubator.vector)" in text
    assert "apt-get install openjdk-17-jre-headless" in text


def test_without_any_java_the_advice_fits_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS nobody has apt-get."""
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))

    with pytest.raises(JavaNotFoundError, match=r"found none: install it with `brew install openjdk@17`"):
        find_java(_environment(tmp_path), platform="darwin")
