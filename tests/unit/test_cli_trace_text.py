"""What `tidegate trace` prints is data as it is, whatever brackets it holds."""

from rich.console import Console

from cli.ledger_commands import _tree


def test_brackets_in_reasons_and_names_are_printed_as_they_are() -> None:
    """A reason with a path in brackets is neither swallowed nor taken for a style."""
    arrival = {"recorded_at": "now", "etag": "0x1", "deliveries": 1, "state": "failed", "reason": "see [/a/b] [red]x"}
    document = {
        "url": "https://a.blob.core.windows.net/c/[x].parquet",
        "arrivals": [arrival],
        "runs": [],
        "made_by": [],
    }
    console = Console(width=200, record=True)

    console.print(_tree(document), highlight=False, markup=False, soft_wrap=True)

    printed = console.export_text()
    assert "see [/a/b] [red]x" in printed
    assert "c/[x].parquet" in printed
