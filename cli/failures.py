"""Ends a command that cannot do what was asked with one sentence on standard error."""

import errno
import functools
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TextIO

import typer

__all__ = ["CommandError", "Commands", "plain_errors"]

# What is wrong is where the output goes; not EPIPE, with which typer ends in silence: who reads has seen enough.
_CANNOT_WRITE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class CommandError(Exception):
    """What was asked cannot be done; the text says why and what to do."""

    def __init__(self, message: str, exit_code: int = 1, document: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, exit_code, document)
        self.message = message
        self.exit_code = exit_code
        self.document = document  # the control plane's whole answer, if it refused in words

    def __str__(self) -> str:
        return self.message


class Commands(typer.Typer):
    """Commands that also tell in a sentence that their output cannot be written, wherever it is: help is no command."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # as typer has it
        """Run the command line, and end the process."""
        is_closed = sys.stdout is None
        if is_closed:  # then typer writes nothing, without a word
            sys.stdout = _no_output()
        try:
            return super().__call__(*args, **kwargs)
        except OSError as error:
            is_ours = is_closed and error.errno == errno.EBADF
            if error.errno not in _CANNOT_WRITE and not is_ours:
                raise
            with suppress(OSError):  # if standard error cannot be written either, the exit code alone tells
                why = "it is closed" if is_ours else error.strerror
                _say(f"cannot write {error.filename or 'the output'}: {why}")
            _forget_output()
            sys.exit(1)


def _no_output() -> TextIO:
    """Return what fails with EBADF when something is written to it; no file that is opened later can take its place."""
    return os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")


def _forget_output() -> None:
    """Leave nothing for Python to flush as it ends, which would fail again, with words and an exit code of its own."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed before we began
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
