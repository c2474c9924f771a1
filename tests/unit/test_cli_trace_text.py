"""What `tidegate trace` prints is data as it is, whatever brackets it holds and however long it is."""

from typing import Any

from cli.trace_commands import _lines


def make_document(*, reason: str, url: str = "https://a.blob.core.windows.net/c/x.parquet") -> dict[str, Any]:
    """Return what is known of a blob that arrived and failed for a reason."""
    arrival = {"recorded_at": "now", "etag": "0x1", "deliveries": 1, "state": "failed", "reason": reason}
    arrival |= {"source": "event", "contradictions": []}
    return {"url": url, "arrivals": [arrival], "runs": [], "made_by": []}


def test_brackets_in_reasons_and_names_are_printed_as_they_are() -> None:
    """A reason with a path in brackets is neither swallowed nor taken for a style."""
    document = make_document(reason="see [/a/b] [red]x", url="https://a.blob.core.windows.net/c/[x].parquet")
    document["arrivals"][0] |= {
        "source": "sweep",
        "contradictions": ["event '[e]' says size_bytes 1, recorded is 2"],
    }

    printed = "\n".join(_lines(document))

    assert "arrived by sweep now" in printed
    assert "see [/a/b] [red]x" in printed
    assert "contradicted: event '[e]' says" in printed
    assert "c/[x].parquet" in printed


def test_long_reasons_and_urls_are_printed_whole() -> None:
    """Whoever copies a URL or reads a reason gets all of it, however narrow the terminal is."""
    reason = "column 'a' is missing; " * 300 + "column 'z' is missing"
    document = make_document(reason=reason, url=f"https://a.blob.core.windows.net/c/{'x' * 1020}")

    lines = _lines(document)

    assert lines == [
        f"https://a.blob.core.windows.net/c/{'x' * 1020}",
        f"└── arrived now, ETag 0x1, 1 delivery: failed ({reason})",
    ]
