"""Names what the Jobs API refuses, in the vendor's words where they are known."""

from local.databricks.workspace.transport.errors import InvalidParameterError, InvalidStateError

__all__ = [
    "DeletedRunTokenError",
    "InvalidSettingsError",
    "JobMissingError",
    "MultipleTasksOutputError",
    "RepairRefusedError",
    "RunActiveError",
    "RunMissingError",
]


class InvalidSettingsError(InvalidParameterError):
    """The settings of a job or submission cannot be used."""


class JobMissingError(InvalidParameterError):
    """There is no such job; clients recognise the text."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"Job {job_id} does not exist.")


class RunMissingError(InvalidParameterError):
    """There is no such run; clients recognise the text."""

    def __init__(self, run_id: int) -> None:
        super().__init__(f"Run {run_id} does not exist.")


class RunActiveError(InvalidStateError):
    """The run has not ended."""

    def __init__(self, run_id: int) -> None:
        super().__init__(f"Run {run_id} is still active, cancel it first.")


class DeletedRunTokenError(InvalidParameterError):
    """The idempotency token names a run that was deleted; it stays reserved."""

    def __init__(self, run_id: int) -> None:
        super().__init__(f"The run {run_id} of this idempotency token was deleted.")


class MultipleTasksOutputError(InvalidParameterError):
    """Output was asked of a run that has several."""

    def __init__(self) -> None:
        super().__init__(
            "Retrieving the output of runs with multiple tasks is not supported. "
            "Please retrieve the output of each individual task run instead."
        )


class RepairRefusedError(InvalidParameterError):
    """The run cannot be repaired like this."""
