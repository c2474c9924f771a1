"""Ends a command that cannot do what was asked with one sentence on standard error."""

import functools
from collections.abc import Callable

import typer

__all__ = ["CommandError", "plain_errors"]


class CommandError(Exception):
    """What was asked cannot be done; the text says why and what to do."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message, exit_code)
        self.message = message
        self.exit_code = exit_code

    def __str__(self) -> str:
        return self.message


def plain_errors[**P, R](command: Callable[P, R]) -> Callable[P, R]:
    """Return the command with the errors that a user can cause or mend told in words, not as a traceback."""

    @functools.wraps(command)
    def speaking(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except CommandError as error:
            _say(str(error))
            raise typer.Exit(error.exit_code) from error
        except Exception as error:
            if (sentence := _sentence(error)) is None:
                raise
            _say(sentence)
            raise typer.Exit(1) from error

    return speaking


def _say(sentence: str) -> None:
    typer.echo(f"Error: {sentence}", err=True)


def _sentence(error: Exception) -> str | None:
    """Return what to tell a person about an error of the local cloud or a service, None for a defect of ours."""
    from functions.core.errors import MlopsError
    from local.cloud import CloudError, NoCloudError

    if isinstance(error, CloudError | NoCloudError):
        return str(error)
    if isinstance(error, MlopsError):
        return f"the control plane's records did not answer as expected: {_first_line(error)}"
    root = type(error).__module__.partition(".")[0]
    if root == "azure":
        return f"storage did not do what was asked: {_first_line(error)}"
    if root == "databricks" or (root == "requests" and "Connection" in type(error).__name__):
        return f"the Databricks workspace did not do what was asked: {_first_line(error)}"
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
