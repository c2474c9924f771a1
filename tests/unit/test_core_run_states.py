"""Holds runs to their table of transitions, whatever is repeated and in whatever order."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from functions.core.endings import announce_stall
from functions.core.errors import IllegalTransitionError
from functions.core.ledger import (
    ARRIVALS_KEPT,
    Run,
    RunRule,
)
from functions.core.ledger_rows import (
    run_from_row,
    run_to_row,
)
from functions.core.lineage import RefusedFile, RefusedRef
from functions.core.model import (
    ArrivalId,
    DatabricksRunId,
    IdempotencyToken,
    Outcome,
    RunKind,
    RunState,
)
from functions.core.run_transitions import (
    attach_manifest,
    begin_next_attempt,
    begin_repair,
    end_run,
    learn_of_refusals,
    mark_published,
    mark_released,
    mark_stall_published,
    mark_stalled,
    persist_token,
    record_report,
    record_submitted,
    want_cancel,
)
from functions.core.stalled import StalledEvent
from tests.support.ledger_entries import (
    DATABRICKS_RUN,
    LATER,
    OTHER_RUN_ID,
    POINTER,
    RUN_ID,
    T0,
    TOKEN,
    ended,
    make_arrival,
    make_event,
    make_run,
    refusal_of,
    submitted,
    submitting,
)


def test_run_goes_from_decision_to_published_end() -> None:
    run = make_run()
    run = persist_token(run, TOKEN, T0)
    run = record_submitted(run, DATABRICKS_RUN, T0, run_page_url="http://x/run/1")
    run = record_report(run, make_event(run, announced_by="notebook"), LATER)
    assert not run.is_story_over
    run = end_run(run, make_event(run), LATER)

    assert [change.state for change in run.history] == ["submitting", "submitted", "reported", "ended"]
    assert (run.outcome, run.token, run.databricks_run_id) == (Outcome.COMPLETED, TOKEN, DATABRICKS_RUN)
    assert run.is_story_over  # the notebook had published the event itself


def test_every_step_is_harmless_when_repeated() -> None:
    """Whoever crashed after the ledger's write repeats the call and goes on."""
    run = make_run(manifest=None)
    steps: list[Callable[[Run], Run]] = [
        lambda run: attach_manifest(run, POINTER, 2, T0),
        lambda run: persist_token(run, TOKEN, T0),
        lambda run: record_submitted(run, DATABRICKS_RUN, T0),
        lambda run: record_report(run, make_event(run, Outcome.FAILED), T0),
        lambda run: end_run(run, make_event(run, Outcome.FAILED), T0),
        lambda run: mark_published(run, T0),
    ]

    for step in steps:
        run = step(run)
        assert step(run) is run


def test_what_a_run_owes_its_good_files_is_written_with_its_end_and_paid_once() -> None:
    """The run is not over, and has no other attempt, before they are held again; a sleeper pays no other attempt's."""
    run = submitted()
    owing = end_run(run, make_event(run, Outcome.FAILED), LATER, release_owed=True)
    published = mark_published(owing, LATER)

    paid = mark_released(published, 1, LATER)

    assert not published.is_story_over
    assert refusal_of(lambda: begin_next_attempt(published, LATER, after=1, reason="x")) == RunRule.RELEASE_BEFORE_RETRY
    assert mark_released(published, 2, LATER) is published
    assert paid.is_story_over
    assert mark_released(paid, 1, LATER) is paid


def test_a_report_after_the_end_is_news_only_if_it_says_who_is_to_blame() -> None:
    refused = RefusedRef(
        file_count=1, files=(RefusedFile(url="https://acct.blob.core.windows.net/a/b", etag="0x1", reason="no"),)
    )
    run = ended()
    report = make_event(run, Outcome.FAILED, refused=refused, announced_by="notebook")

    learnt = learn_of_refusals(run, report, LATER)

    assert (learnt.completion, learnt.release_owed) == (report, True)
    for stale, told in (
        (learnt, report),
        (run, make_event(run, Outcome.FAILED)),
        (run, replace(report, attempt=2)),
        (ended(Outcome.CANCELLED), report),
        (submitted(), report),
    ):
        assert learn_of_refusals(stale, told, LATER) is stale


def test_only_what_has_failed_owes_its_files_a_release() -> None:
    with pytest.raises(ValueError, match="only a run that has failed sets files free"):
        replace(ended(Outcome.CANCELLED), release_owed=True)


def test_a_failed_arrival_learns_the_reason_once() -> None:
    """A notebook may say which file is to blame after the run has ended by Databricks' word alone."""
    arrival = make_arrival().assign(RUN_ID, T0).mark_failed(RUN_ID, T0, "Databricks says FAILED")

    learnt = arrival.blame(RUN_ID, LATER, "no Parquet file")

    assert (learnt.reason, learnt.updated_at, learnt.history) == ("no Parquet file", LATER, arrival.history)
    assert learnt.blame(RUN_ID, LATER, "no Parquet file") is learnt
    assert learnt.mark_failed(RUN_ID, LATER, "another attempt was cancelled") is learnt


def test_token_is_in_the_ledger_once_and_never_changes() -> None:
    """I3, R21: a second worker with another idea of what is wanted must use the first one's token."""
    run = submitting()

    assert refusal_of(lambda: persist_token(run, IdempotencyToken("b" * 64), T0)) == RunRule.KEEP_THE_FIRST_TOKEN
    assert refusal_of(lambda: persist_token(make_run(manifest=None), TOKEN, T0)) == RunRule.MANIFEST_BEFORE_TOKEN
    other = replace(POINTER, sha256="d" * 64)
    assert refusal_of(lambda: attach_manifest(run, other, 1, T0)) == RunRule.MANIFEST_BEFORE_TOKEN


def test_one_token_is_one_databricks_run() -> None:
    run = submitted()

    refused = refusal_of(lambda: record_submitted(run, DatabricksRunId(8), T0))

    assert refused == RunRule.KEEP_THE_FIRST_DATABRICKS_RUN


def test_report_may_overtake_the_answer_to_the_submission() -> None:
    """A notebook that is done before run_now answers must not be lost, nor must the answer."""
    run = submitting()
    run = record_report(run, make_event(run, databricks_run_id=None, announced_by="notebook"), LATER)
    assert (run.state, run.databricks_run_id) == (RunState.REPORTED, None)

    run = record_submitted(run, DATABRICKS_RUN, LATER, run_page_url="http://x/run/1")

    assert (run.state, run.databricks_run_id, run.run_page_url) == (
        RunState.REPORTED,
        DATABRICKS_RUN,
        "http://x/run/1",
    )


def test_databricks_run_that_was_found_later_moves_a_submitting_run_on() -> None:
    run = replace(submitting(), databricks_run_id=DATABRICKS_RUN)

    assert record_submitted(run, DATABRICKS_RUN, LATER).state is RunState.SUBMITTED


@pytest.mark.parametrize("changes", [{"attempt": 2}, {"token": IdempotencyToken("f" * 64)}, {"run_id": OTHER_RUN_ID}])
def test_report_of_another_attempt_is_refused(changes: dict[str, Any]) -> None:
    """A zombie of attempt 1 cannot end attempt 2."""
    run = submitted()

    refused = refusal_of(lambda: record_report(run, make_event(run, **changes), LATER))

    assert refused == RunRule.REJECT_FOREIGN_COMPLETION


def test_second_completion_is_rejected() -> None:
    run = ended(Outcome.FAILED)
    reported = record_report(submitted(), make_event(submitted(), Outcome.FAILED), LATER)

    assert refusal_of(lambda: end_run(run, make_event(run), LATER)) == RunRule.REJECT_SECOND_COMPLETION
    assert refusal_of(lambda: record_report(run, make_event(run), LATER)) == RunRule.REJECT_SECOND_COMPLETION
    assert refusal_of(lambda: record_report(reported, make_event(run), LATER)) == RunRule.REJECT_SECOND_COMPLETION
    foreign = make_event(run, attempt=9)
    assert refusal_of(lambda: end_run(run, foreign, LATER)) == RunRule.REJECT_FOREIGN_COMPLETION


def test_own_announcement_that_comes_back_proves_its_publication() -> None:
    run = ended(Outcome.FAILED)
    event = make_event(run, Outcome.FAILED)

    back = record_report(run, event, LATER)

    assert back.published_at == LATER
    assert record_report(back, event, LATER) is back


def test_what_the_notebook_claimed_wrongly_is_corrected() -> None:
    """The notebook said completed, the outputs do not prove it: the run failed, and that is announced too."""
    run = submitted()
    run = record_report(run, make_event(run, announced_by="notebook"), LATER)

    run = end_run(run, make_event(run, Outcome.FAILED), LATER, reason="no manifest")

    assert run.completion is not None
    assert (run.outcome, run.reason, run.completion.outcome) == (Outcome.FAILED, "no manifest", Outcome.FAILED)
    assert run.published_at is None


def test_scoring_cannot_complete_without_verified_outputs() -> None:
    """I4."""
    run = submitted()
    training = submitted(kind=RunKind.TRAINING)

    assert refusal_of(lambda: end_run(run, make_event(run, outputs=None), LATER)) == RunRule.PROVE_SCORES
    assert end_run(training, make_event(training, outputs=None), LATER).outcome is Outcome.COMPLETED


def test_next_attempt_starts_clean_and_keeps_the_story() -> None:
    run = mark_published(ended(Outcome.FAILED), LATER)

    again = begin_next_attempt(run, LATER, after=1, reason="retried by hand")

    assert (again.state, again.attempt, again.manifest) == (RunState.DECIDED, 2, POINTER)
    assert (again.token, again.databricks_run_id, again.outcome, again.completion) == (None, None, None, None)
    (over,) = again.attempts
    assert (over.number, over.token, over.databricks_run_id) == (1, TOKEN, DATABRICKS_RUN)
    assert (over.outcome, over.reason) == (Outcome.FAILED, "it broke")
    assert begin_next_attempt(again, LATER, after=1, reason="a redelivery") is again


def test_a_run_that_is_repeated_for_ever_fits_its_row() -> None:
    """A row holds a mebibyte, two bytes a character, and a reason has thousands of them."""
    run = submitted()
    for attempt in range(1, 301):
        failed = end_run(run, make_event(run, outcome=Outcome.FAILED, outputs=None, reason="€" * 4000), LATER)
        run = begin_next_attempt(mark_published(failed, LATER), LATER, after=attempt, reason="€" * 1000)
        run = replace(run, state=RunState.SUBMITTED, token=TOKEN, databricks_run_id=DATABRICKS_RUN)

    assert sum(2 * len(value) for value in run_to_row(run).values() if isinstance(value, str)) < 2**20
    assert [len(attempt.reason or "") for attempt in run.attempts] == [200] * 290 + [4000] * 10


def test_attempt_that_never_ran_goes_again_without_an_announcement() -> None:
    run = submitted()

    again = begin_next_attempt(run, LATER, after=1, reason="Databricks skipped it")

    assert again.attempts[0].outcome is None
    assert again.attempts[0].reason == "Databricks skipped it"


def test_next_attempt_waits_for_the_end_of_this_one() -> None:
    decided, reported = make_run(), record_report(submitted(), make_event(submitted(), Outcome.FAILED), LATER)
    cases = {
        RunRule.FOLLOW_THE_TABLE: decided,
        RunRule.REPORT_THEN_END: reported,
        RunRule.PUBLISH_BEFORE_RETRY: ended(Outcome.FAILED),
        RunRule.REJECT_RETRY_OF_SUCCESS: mark_published(ended(Outcome.COMPLETED), LATER),
    }

    assert {
        rule: refusal_of(lambda run=run: begin_next_attempt(run, LATER, after=1, reason="x"))  # type: ignore[misc] # mypy cannot type a lambda's default
        for rule, run in cases.items()
    } == {rule: rule for rule in cases}


def test_run_can_only_be_published_after_its_end() -> None:
    assert refusal_of(lambda: mark_published(submitted(), LATER)) == RunRule.END_BEFORE_PUBLISHING


def test_decided_run_cannot_report() -> None:
    """What was never sent cannot answer."""
    run = replace(make_run(), token=TOKEN)

    assert refusal_of(lambda: record_report(run, make_event(run), LATER)) == RunRule.FOLLOW_THE_TABLE


def make_stall(run: Run, at: datetime = LATER) -> StalledEvent:
    return announce_stall(run, now=at, after_minutes=60)


def test_an_attempt_is_stalled_once_and_stays_open() -> None:
    """R54: the first event stays, whoever else sees it later."""
    before = submitted()
    run = mark_stalled(before, make_stall(before), LATER)

    assert (run.stall, run.state, run.owes_stall) == (make_stall(before), RunState.SUBMITTED, True)
    assert mark_stalled(run, make_stall(run, LATER + timedelta(1)), LATER) is run
    assert mark_stalled(ended(), make_stall(before), LATER).stall is None
    assert mark_stalled(replace(before, attempt=2), make_stall(before), LATER).stall is None


def test_a_stall_is_published_before_the_story_is_over_and_before_the_next_attempt() -> None:
    before = submitted()
    stall = make_stall(before)
    stalled = mark_stalled(before, stall, LATER)
    over = mark_published(end_run(stalled, make_event(stalled, Outcome.FAILED), LATER), LATER)
    told = mark_stall_published(over, stall, LATER)

    assert (over.is_story_over, told.is_story_over) == (False, True)
    assert refusal_of(lambda: begin_next_attempt(over, LATER, after=1, reason="again")) == RunRule.PUBLISH_BEFORE_RETRY
    following = begin_next_attempt(told, LATER, after=1, reason="again")
    assert (following.stall, following.stall_published_at) == (None, None)
    assert mark_stall_published(following, stall, LATER) is following
    assert mark_stall_published(told, stall, LATER + timedelta(1)) is told


def test_an_attempt_begins_when_it_is_decided() -> None:
    """Its SLA counts from there, not from the first attempt's."""
    run = mark_published(ended(Outcome.FAILED), LATER)
    second = begin_next_attempt(run, LATER + timedelta(days=3), after=1, reason="asked for")

    assert make_run().began_at == T0
    assert second.began_at == LATER + timedelta(days=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arrivals": tuple(ArrivalId(str(n)) for n in range(ARRIVALS_KEPT + 1))}, "keeps at most 200"),
        ({"state": RunState.ENDED}, "ended has outcome None"),
        ({"outcome": Outcome.FAILED}, "decided has outcome"),
        ({"model_version": None}, "needs a pinned model version"),
        ({"created_at": datetime(2026, 1, 1)}, "created_at must be"),  # noqa: DTZ001 - the point
    ],
)
def test_run_that_cannot_be_is_not_built(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_run(**changes)


class RunStory(RuleBasedStateMachine):
    """Throws every transition at a run, in any order and as often as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.run = make_run()
        self.submitted_tokens: dict[int, set[str]] = {}
        self.announced: dict[int, set[Outcome]] = {}

    def _try(self, act: Callable[[], Run]) -> None:
        before = self.run
        try:
            self.run = act()
        except IllegalTransitionError:
            assert self.run is before
        if self.run.token is not None:
            self.submitted_tokens.setdefault(self.run.attempt, set()).add(self.run.token)
        if self.run.outcome is not None:
            self.announced.setdefault(self.run.attempt, set()).add(self.run.outcome)

    @initialize()
    def decide(self) -> None:
        self.run = make_run()

    @rule(token=st.sampled_from(["a" * 64, "b" * 64]))
    def persist(self, token: str) -> None:
        self._try(lambda: persist_token(self.run, IdempotencyToken(token), LATER))

    @rule(number=st.sampled_from([7, 8]))
    def answer(self, number: int) -> None:
        self._try(lambda: record_submitted(self.run, DatabricksRunId(number), LATER))

    @rule(outcome=st.sampled_from([Outcome.COMPLETED, Outcome.FAILED]), attempt=st.integers(1, 3))
    def report(self, outcome: Outcome, attempt: int) -> None:
        self._try(lambda: record_report(self.run, make_event(self.run, outcome, attempt=attempt), LATER))

    @rule(outcome=st.sampled_from(Outcome))
    def end(self, outcome: Outcome) -> None:
        self._try(lambda: end_run(self.run, make_event(self.run, outcome), LATER))

    @rule()
    def publish(self) -> None:
        self._try(lambda: mark_published(self.run, LATER))

    @rule(after=st.integers(1, 3))
    def go_again(self, after: int) -> None:
        self._try(lambda: begin_next_attempt(self.run, LATER, after=after, reason="again"))

    @invariant()
    def one_token_and_one_outcome_an_attempt(self) -> None:
        assert all(len(tokens) == 1 for tokens in self.submitted_tokens.values())
        assert all(len(outcomes) == 1 for outcomes in self.announced.values())

    @invariant()
    def success_is_final(self) -> None:
        assert all(
            attempt == self.run.attempt for attempt, outcomes in self.announced.items() if Outcome.COMPLETED in outcomes
        )

    @invariant()
    def attempts_are_numbered_without_a_gap(self) -> None:
        assert [over.number for over in self.run.attempts] == list(range(1, self.run.attempt))

    @invariant()
    def row_keeps_everything(self) -> None:
        assert run_from_row(run_to_row(self.run)) == self.run


TestRunStory = RunStory.TestCase
TestRunStory.settings = settings(max_examples=60, stateful_step_count=25)


def test_a_run_that_is_to_be_cancelled_gets_no_token_and_no_next_attempt() -> None:
    """What was not sent is not sent any more, and what was sent ends as cancelled first."""
    unsent, sent = (want_cancel(run, LATER, by="ann") for run in (make_run(), submitted()))

    assert refusal_of(lambda: persist_token(unsent, TOKEN, LATER)) == RunRule.CANCEL_BEFORE_TOKEN
    assert refusal_of(lambda: begin_next_attempt(sent, LATER, after=1, reason="x")) == RunRule.CANCEL_IS_FINAL
    assert want_cancel(sent, LATER, by="bob") is sent
    assert (sent.state, sent.history[-1].note) == (RunState.SUBMITTED, "to be cancelled, asked for by ann")


def test_only_what_ran_and_ended_is_repaired_and_once() -> None:
    over = mark_published(ended(), LATER)
    never_sent = mark_published(end_run(make_run(), make_event(make_run(), Outcome.FAILED), LATER), LATER)

    repaired = begin_repair(over, LATER, after=1, latest_repair=0, reason="asked for")

    assert (repaired.attempt, repaired.databricks_run_id, repaired.repair_after) == (2, DATABRICKS_RUN, 0)
    assert (repaired.state, repaired.token) == (RunState.DECIDED, None)
    assert begin_repair(repaired, LATER, after=1, latest_repair=5, reason="again") is repaired
    for run in (submitted(), never_sent):
        refusal = refusal_of(lambda run=run: begin_repair(run, LATER, after=1, latest_repair=0, reason="x"))  # type: ignore[misc] # bound now
        assert refusal == RunRule.REPAIR_WHAT_RAN
