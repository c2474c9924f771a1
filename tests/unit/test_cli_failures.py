"""Tests that what a user can mend is told in one sentence."""

import pytest
import typer

from cli.failures import plain_errors
from functions.core.errors import LedgerUnavailableError


def test_a_stopped_storage_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    @plain_errors
    def command() -> None:
        raise LedgerUnavailableError("listing runs", "ServiceRequestError")

    with pytest.raises(typer.Exit) as ended:
        command()

    assert ended.value.exit_code == 1
    told = capsys.readouterr().err
    assert told.startswith("Error: ")
    assert told.endswith("listing runs: ServiceRequestError\n")
