"""Holds the error tree to its promises: a branch each, picklable, readable, without payloads."""

import pickle

import pytest

from functions.core import errors
from functions.core.errors import MlopsError, PermanentError, Problem, ThrottledError, TransientError
from functions.core.model import JobKey, PipelineKey, RunId

_PROBLEM = Problem("a.b", "3", "text")
EXAMPLES: dict[MlopsError, str] = {
    errors.InvalidEventError([_PROBLEM]): "1 mistake in the event: a.b: got 3, expected text",
    errors.InvalidDocumentError([_PROBLEM, _PROBLEM]): (
        "2 mistakes in the document: a.b: got 3, expected text; a.b: got 3, expected text"
    ),
    errors.InvalidRequestError([_PROBLEM]): "1 mistake in the request: a.b: got 3, expected text",
    errors.InvalidConfigurationError([_PROBLEM]): "1 mistake in the configuration:\n  a.b: got 3, expected text",
    errors.InvalidSettingsError([_PROBLEM]): "1 mistake in the settings: a.b: got 3, expected text",
    errors.IllegalPlanError(PipelineKey("p"), ["publish needs training"]): (
        "the plan of 'p' cannot work: publish needs training"
    ),
    errors.IllegalTransitionError("RejectSecondCompletion", "r", "ended", "failed"): (
        "RejectSecondCompletion: 'r' is ended, so it cannot become failed"
    ),
    errors.ParametersTooLargeError(12_000, 10_000): "the job parameters are 12000 bytes, expected at most 10000",
    errors.UnknownPipelineError(PipelineKey("x"), [PipelineKey("b"), PipelineKey("a")]): (
        "no pipeline 'x'; known pipelines: a, b"
    ),
    errors.ContinuationLostError(
        "input/new/"
    ): "the listing of input/new/ cannot go on where it stopped; begin it again",
    errors.DeadLetterRefusedError("A/x.json", [], ["e-1: no event"]): (
        "dead letter 'A/x.json': its message was refused again: e-1: no event; what cannot be read stays so, have its "
        "sender send it anew; else mend what refused it and replay the letter again, which does nothing twice"
    ),
    errors.DeadLetterRefusedError("A/x.json", ["a: held"], ["b: no", "c: no", "d: no", "e: no"]): (
        "dead letter 'A/x.json': 4 of its 5 messages were refused again: b: no; c: no; d: no; and 1 more; what cannot "
        "be read stays so, have its sender send it anew; else mend what refused it and replay the letter again, which "
        "does nothing twice"
    ),
    errors.UnknownRunError(RunId("r")): "no run 'r' in the ledger",
    errors.UnknownJobError(JobKey("j"), []): "no job for 'j'; known jobs: none; deploy it first",
    errors.AmbiguousJobError(JobKey("j"), [1, 2]): (
        "2 jobs are named like 'j' (ids 1, 2), expected one; delete the others"
    ),
    errors.DriftedJobError(JobKey("j"), ["a: 1 -> 2", "b: 1 -> 2", "c: 1 -> 2", "d: 1 -> 2"]): (
        "the job for 'j' is not as its template says (a: 1 -> 2; b: 1 -> 2; c: 1 -> 2; and 1 more); deploy it again"
    ),
    errors.RunRejectedError("submitting", "a bad parameter"): "submitting: a bad parameter",
    errors.AccessRefusedError("listing jobs", "no role"): "listing jobs: no role",
    errors.NotFoundError("reading", "gone"): "reading: gone",
    errors.NotSignedInError("no header"): (
        "got no header, expected a caller who is signed in through App Service authentication; "
        "sign in with Entra and send the token as bearer"
    ),
    errors.RoleMissingError("ann", "Tidegate.Operator"): (
        "'ann' lacks the app role Tidegate.Operator; have it assigned in the app's enterprise application"
    ),
    errors.LedgerUnavailableError("inserting", "timeout"): "inserting: timeout",
    errors.LedgerConflictError("updating", "changed"): "updating: changed",
    errors.StorageUnavailableError("reading", "timeout"): "reading: timeout",
    errors.QueueUnavailableError("sending", "timeout"): "sending: timeout",
    errors.RunSubmissionError("submitting", "timeout"): "submitting: timeout",
    errors.WorkspaceUnavailableError("asking", "timeout"): "asking: timeout",
    errors.PublicationError("publishing", "timeout"): "publishing: timeout",
    errors.ThrottledError("submitting", 1.5): "submitting: throttled for 1.5 s",
    errors.LedgerThrottledError("updating", None): "updating: throttled without saying for how long",
}


def test_every_error_has_an_example() -> None:
    """The list below is complete, so the other tests speak for all of them."""
    named = {getattr(errors, name) for name in errors.__all__}
    concrete = named - {MlopsError, PermanentError, TransientError, Problem}

    assert {type(example) for example in EXAMPLES} == concrete


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_error_is_on_exactly_one_branch(error: MlopsError) -> None:
    """The branch alone decides whether work is repeated."""
    assert isinstance(error, PermanentError) != isinstance(error, TransientError)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_error_survives_pickling(error: MlopsError) -> None:
    """Errors cross process borders with their facts."""
    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), copy.args, str(copy)) == (type(error), error.args, str(error))


@pytest.mark.parametrize(("error", "message"), EXAMPLES.items(), ids=lambda item: type(item).__name__)
def test_error_says_what_was_received_and_expected(error: MlopsError, message: str) -> None:
    assert str(error) == message


def test_throttling_carries_the_wait_that_was_asked_for() -> None:
    assert ThrottledError("x", 2.0).retry_after_s == 2.0
    assert ThrottledError("x", None).retry_after_s is None
    assert "without saying" in str(ThrottledError("x", None))
    assert errors.PublicationError("x", "y").retry_after_s is None
