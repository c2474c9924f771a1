"""Divides every error of the control plane into those that a retry can help and those that it cannot.

    MlopsError
    ├── PermanentError     retrying cannot help: dead-letter the event, tell a person
    │   └── InvalidEventError · InvalidDocumentError · InvalidRequestError · InvalidConfigurationError ·
    │       InvalidSettingsError · IllegalPlanError · IllegalTransitionError · ParametersTooLargeError ·
    │       UnknownPipelineError · UnknownRunError · UnknownJobError · AmbiguousJobError · DriftedJobError ·
    │       RunRejectedError · AccessRefusedError · NotFoundError · ContinuationLostError · NotSignedInError ·
    │       RoleMissingError · DeadLetterRefusedError
    └── TransientError     retrying may help: let the host redeliver, or put the work back with delay
        └── LedgerUnavailableError · LedgerConflictError · StorageUnavailableError · QueueUnavailableError ·
            RunSubmissionError · WorkspaceUnavailableError · ThrottledError · LedgerThrottledError ·
            PublicationError

Every error's `args` hold its facts in the order of its constructor, so that errors pickle.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from functions.core.model import JobKey, PipelineKey, RunId

__all__ = [
    "AccessRefusedError",
    "AmbiguousJobError",
    "ContinuationLostError",
    "DeadLetterRefusedError",
    "DriftedJobError",
    "IllegalPlanError",
    "IllegalTransitionError",
    "InvalidConfigurationError",
    "InvalidDocumentError",
    "InvalidEventError",
    "InvalidRequestError",
    "InvalidSettingsError",
    "LedgerConflictError",
    "LedgerThrottledError",
    "LedgerUnavailableError",
    "MlopsError",
    "NotFoundError",
    "NotSignedInError",
    "ParametersTooLargeError",
    "PermanentError",
    "Problem",
    "PublicationError",
    "QueueUnavailableError",
    "RoleMissingError",
    "RunRejectedError",
    "RunSubmissionError",
    "StorageUnavailableError",
    "ThrottledError",
    "TransientError",
    "UnknownJobError",
    "UnknownPipelineError",
    "UnknownRunError",
    "WorkspaceUnavailableError",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in something that was read: where it is, what was found there, what was expected."""

    place: str
    got: str  # a shortened repr, or "nothing"
    expected: str

    def __str__(self) -> str:
        return f"{self.place}: got {self.got}, expected {self.expected}"


class MlopsError(Exception):
    """Anything that the control plane knows can go wrong."""


class PermanentError(MlopsError):
    """Retrying cannot help."""


class TransientError(MlopsError):
    """Retrying may help."""

    @property
    def retry_after_s(self) -> float | None:
        """How long the other side asked to be left alone, or None if it did not say."""
        return None


def _mistakes(problems: Sequence[Problem]) -> str:
    return "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"


class _ProblemsError(PermanentError):
    """Something that was read has mistakes; all of them are listed."""

    _what = "the document"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return f"{_mistakes(self.problems)} in {self._what}: " + "; ".join(map(str, self.problems))


class InvalidEventError(_ProblemsError):
    """A message from outside is not an event that can be understood."""

    _what = "the event"


class InvalidDocumentError(_ProblemsError):
    """A manifest, a completion event or a ledger row is not what its schema says."""


class InvalidRequestError(_ProblemsError):
    """The body of a request for a run is wrong; every bad field is listed."""

    _what = "the request"


class InvalidConfigurationError(_ProblemsError):
    """`pipelines.toml` is wrong; every mistake is listed, so that one edit can mend them all."""

    def __str__(self) -> str:
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        return f"{_mistakes(self.problems)} in the configuration:{lines}"


class InvalidSettingsError(_ProblemsError):
    """The app settings are missing or wrong; all of them are named."""

    _what = "the settings"


class IllegalPlanError(PermanentError):
    """A run was wanted whose stages cannot work; names what is missing for each."""

    def __init__(self, pipeline: PipelineKey, missing: Sequence[str]) -> None:
        super().__init__(pipeline, tuple(missing))
        self.pipeline = pipeline
        self.missing = tuple(missing)

    def __str__(self) -> str:
        return f"the plan of {self.pipeline!r} cannot work: " + "; ".join(self.missing)


class IllegalTransitionError(PermanentError):
    """A ledger entry was asked to change in a way that its rules refuse."""

    def __init__(self, rule: str, subject: str, current: str, wanted: str) -> None:
        super().__init__(rule, subject, current, wanted)
        self.rule = rule
        self.subject = subject
        self.current = current
        self.wanted = wanted

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject!r} is {self.current}, so it cannot become {self.wanted}"


class ParametersTooLargeError(PermanentError):
    """The job parameters exceed what the Jobs API takes."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(size_bytes, limit_bytes)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"the job parameters are {self.size_bytes} bytes, expected at most {self.limit_bytes}"


class UnknownPipelineError(PermanentError):
    """A name that `pipelines.toml` does not have."""

    def __init__(self, pipeline: PipelineKey, known: Sequence[PipelineKey]) -> None:
        super().__init__(pipeline, tuple(known))
        self.pipeline = pipeline
        self.known = tuple(known)

    def __str__(self) -> str:
        return f"no pipeline {self.pipeline!r}; known pipelines: {', '.join(sorted(self.known)) or 'none'}"


class UnknownRunError(PermanentError):
    """No run of this id is in the ledger."""

    def __init__(self, run_id: RunId) -> None:
        super().__init__(run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        return f"no run {self.run_id!r} in the ledger"


class UnknownJobError(PermanentError):
    """No job of this name is in the workspace, or no template of it in the repository."""

    def __init__(self, job: JobKey, known: Sequence[JobKey]) -> None:
        super().__init__(job, tuple(known))
        self.job = job
        self.known = tuple(known)

    def __str__(self) -> str:
        return f"no job for {self.job!r}; known jobs: {', '.join(sorted(self.known)) or 'none'}; deploy it first"


class AmbiguousJobError(PermanentError):
    """Several jobs have the name of one."""

    def __init__(self, job: JobKey, ids: Sequence[int]) -> None:
        super().__init__(job, tuple(ids))
        self.job = job
        self.ids = tuple(ids)

    def __str__(self) -> str:
        ids = ", ".join(map(str, self.ids))
        return f"{len(self.ids)} jobs are named like {self.job!r} (ids {ids}), expected one; delete the others"


class DriftedJobError(PermanentError):
    """A job is not any more as its template says; lists where."""

    def __init__(self, job: JobKey, drift: Sequence[str]) -> None:
        super().__init__(job, drift)
        self.job = job
        self.drift = tuple(drift)

    def __str__(self) -> str:
        shown, others = "; ".join(self.drift[:3]), len(self.drift) - 3
        more = f"; and {others} more" if others > 0 else ""
        return f"the job for {self.job!r} is not as its template says ({shown}{more}); deploy it again"


class _SubjectError(MlopsError):
    """Something outside refused or failed; says what was attempted and why it did not work."""

    def __init__(self, subject: str, why: str) -> None:
        super().__init__(subject, why)
        self.subject = subject
        self.why = why

    def __str__(self) -> str:
        return f"{self.subject}: {self.why}"


class RunRejectedError(_SubjectError, PermanentError):
    """Databricks refused the submission itself, so repeating it cannot help."""


class AccessRefusedError(_SubjectError, PermanentError):
    """The identity of the control plane may not do this; a role is missing."""


class NotFoundError(_SubjectError, PermanentError):
    """What was asked for does not exist."""


class NotSignedInError(PermanentError):
    """Nobody vouches for the caller, and the endpoint wants to know who calls."""

    def __init__(self, got: str) -> None:
        super().__init__(got)
        self.got = got

    def __str__(self) -> str:
        return (
            f"got {self.got}, expected a caller who is signed in through App Service authentication; "
            "sign in with Entra and send the token as bearer"
        )


class RoleMissingError(PermanentError):
    """The caller is known and may not do this."""

    def __init__(self, caller: str, role: str) -> None:
        super().__init__(caller, role)
        self.caller = caller
        self.role = role

    def __str__(self) -> str:
        return f"{self.caller!r} lacks the app role {self.role}; have it assigned in the app's enterprise application"


class ContinuationLostError(PermanentError):
    """The place in a listing at which to go on is not known any more; the listing must begin again."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place

    def __str__(self) -> str:
        return f"the listing of {self.place} cannot go on where it stopped; begin it again"


class DeadLetterRefusedError(PermanentError):
    """Messages of a dead letter were refused again; the others were taken."""

    def __init__(self, name: str, did: Sequence[str], did_not: Sequence[str]) -> None:
        super().__init__(name, tuple(did), tuple(did_not))
        self.name = name
        self.did = tuple(did)
        self.did_not = tuple(did_not)

    def __str__(self) -> str:
        refused, total = len(self.did_not), len(self.did) + len(self.did_not)
        many = "its message was" if total == 1 else f"{refused} of its {total} messages were"
        shown, others = "; ".join(self.did_not[:3]), refused - 3
        more = f"; and {others} more" if others > 0 else ""
        return (
            f"dead letter {self.name!r}: {many} refused again: {shown}{more}; what cannot be read stays so, have its "
            "sender send it anew; else mend what refused it and replay the letter again, which does nothing twice"
        )


class LedgerUnavailableError(_SubjectError, TransientError):
    """The ledger did not answer."""


class LedgerConflictError(_SubjectError, TransientError):
    """A ledger entry changed since it was read; read it again and decide again."""


class StorageUnavailableError(_SubjectError, TransientError):
    """Blob Storage did not answer."""


class QueueUnavailableError(_SubjectError, TransientError):
    """A queue did not take the work."""


class RunSubmissionError(_SubjectError, TransientError):
    """A submission may or may not have started its run; repeating it with the same token tells."""


class WorkspaceUnavailableError(_SubjectError, TransientError):
    """The Databricks workspace did not answer a question."""


class PublicationError(_SubjectError, TransientError):
    """The Event Grid topic did not take a completion event."""


class ThrottledError(TransientError):
    """The other side asks for fewer calls."""

    def __init__(self, subject: str, after_s: float | None) -> None:
        super().__init__(subject, after_s)
        self.subject = subject
        self.after_s = after_s

    @property
    def retry_after_s(self) -> float | None:
        """How long the other side asked to be left alone, or None if it did not say."""
        return self.after_s

    def __str__(self) -> str:
        wait = "without saying for how long" if self.after_s is None else f"for {self.after_s:g} s"
        return f"{self.subject}: throttled {wait}"


class LedgerThrottledError(ThrottledError):
    """The ledger asks for fewer calls: also for fewer that only tell of it."""
