"""Names the ways a run can fail, each with the code that its completion event's reason starts with.

RunError
├── InvalidParametersError      the job parameters are not what the contract says
├── InvalidEnvironmentError     environment.json or a secret it names is missing or wrong
├── MissingPrerequisiteError    a disabled stage has no checkpoint to take its place
├── InvalidManifestError        the input manifest is not the one that was decided, or not readable as one
├── SupersededError             an input file changed or vanished since the batch was frozen
├── InputRefusedError           the files are not what the pipeline's input contract says
├── ModelUnavailableError       the pinned model version cannot be loaded
├── ScoreContractError          the scores written do not add up, so they are not published
├── CheckpointLostError         a checkpoint vanished while the run went on
└── StageOrderError             the notebook calls stages in an order that makes no sense
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

__all__ = [
    "CheckpointLostError",
    "InputRefusedError",
    "InvalidEnvironmentError",
    "InvalidManifestError",
    "InvalidParametersError",
    "MissingPrerequisiteError",
    "ModelUnavailableError",
    "RefusedFile",
    "RunError",
    "ScoreContractError",
    "StageOrderError",
    "SupersededError",
    "reason_of",
    "refused_files_of",
]

_CHANGES_TOLD: Final = 20
_MAX_REASON: Final = 2000  # result and completion schemas allow no more per stage


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedFile:
    """An input file that cannot be read or used, whatever else is in its batch."""

    url: str
    etag: str  # the version in the manifest
    reason: str


class RunError(Exception):
    """A run cannot go on; trying the same again needs a new attempt."""

    code: ClassVar[str] = "run_failed"
    refused: tuple[RefusedFile, ...] = ()  # the files that alone are to blame, as far as they are known


class InvalidParametersError(RunError):
    """Job parameters are missing or malformed; lists all of them."""

    code = "invalid_parameters"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)


class InvalidEnvironmentError(RunError):
    """The release's environment.json does not describe a usable environment."""

    code = "invalid_environment"


class MissingPrerequisiteError(RunError):
    """A stage is enabled whose input nobody makes: the stage before it is disabled and left no checkpoint."""

    code = "missing_prerequisite"

    def __init__(self, missing: Sequence[tuple[str, str]]) -> None:
        super().__init__(missing)
        self.missing = tuple(missing)

    def __str__(self) -> str:
        parts = [f"stage {stage!r} needs {needed!r}, which is disabled" for stage, needed in self.missing]
        return "; ".join(parts) + ": no earlier run of this batch left a checkpoint of it, so enable it"


class InvalidManifestError(RunError):
    """The input manifest cannot be trusted."""

    code = "invalid_manifest"


class SupersededError(RunError):
    """An input file, or several, are no longer the versions that the batch was made of."""

    code = "superseded"

    def __init__(
        self, url: str, expected_etag: str, found_etag: str | None, others: Sequence["SupersededError"] = ()
    ) -> None:
        super().__init__(url, expected_etag, found_etag, tuple(others))
        self.url = url
        self.expected_etag = expected_etag
        self.found_etag = found_etag
        self.others = tuple(others)
        itself = RefusedFile(url=url, etag=expected_etag, reason=f"{self.code}: {self.change}")
        self.refused = (itself, *(file for other in self.others for file in other.refused))

    def __str__(self) -> str:
        told = [self, *self.others][:_CHANGES_TOLD]
        more = f"; and {len(self.others) + 1 - len(told)} more files" if len(told) <= len(self.others) else ""
        return "; ".join(f"{one.url} {one.change}" for one in told) + more

    @property
    def change(self) -> str:
        """What became of this one file."""
        found = "is gone" if self.found_etag is None else f"now has ETag {self.found_etag!r}"
        return f"{found}, the batch was made of ETag {self.expected_etag!r}"


class InputRefusedError(RunError):
    """The input is not what the route promises; lists every reason, and the files that alone are to blame."""

    code = "input_refused"

    def __init__(self, reasons: Sequence[str], files: Sequence[RefusedFile] = ()) -> None:
        super().__init__(reasons, files)
        self.reasons = tuple(reasons)
        self.refused = tuple(files)

    def __str__(self) -> str:
        return "; ".join(self.reasons)


class ModelUnavailableError(RunError):
    """The model version that the run was decided with cannot be used."""

    code = "model_unavailable"


class ScoreContractError(RunError):
    """The scores written are not what is promised to readers; lists every discrepancy."""

    code = "score_contract"

    def __init__(self, discrepancies: Sequence[str]) -> None:
        super().__init__(discrepancies)
        self.discrepancies = tuple(discrepancies)

    def __str__(self) -> str:
        return "; ".join(self.discrepancies)


class CheckpointLostError(RunError):
    """A checkpoint that was there when the run started, or part of it, is gone."""

    code = "checkpoint_lost"


class StageOrderError(RunError):
    """A notebook runs a stage twice, out of order, or not at all."""

    code = "stage_order"


def reason_of(error: BaseException) -> str:
    """Return what a completion event says about the error: its code, then its text, cut to what the schema allows."""
    code = error.code if isinstance(error, RunError) else f"unexpected_error: {type(error).__name__}"
    return f"{code}: {error}"[:_MAX_REASON]


def refused_files_of(error: BaseException) -> tuple[RefusedFile, ...]:
    """Return the input files that alone are to blame for the error; none if it is not about files, or nobody knows."""
    return error.refused if isinstance(error, RunError) else ()
