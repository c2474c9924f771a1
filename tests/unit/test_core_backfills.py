"""Tests the rules by which a backfill is planned, counted, stopped and gone on with (R75)."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.backfill_requests import parse_backfill_request
from functions.core.backfill_rows import backfill_from_row, backfill_to_row
from functions.core.backfills import (
    BACKFILL_TRANSITIONS,
    Backfill,
    BackfillState,
    Counts,
    backfill_id_of,
    confirm,
    count_page,
    give_up,
    go_on,
    places_of,
    start_over,
    stop,
)
from functions.core.errors import IllegalTransitionError, InvalidRequestError
from functions.core.model import JobKey, PipelineKey
from functions.core.pipelines_toml import parse_pipelines
from tests.support import records
from tests.support.control_plane import PIPELINES_TOML, SCORING, TRAINING, make_pipelines

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_backfill(**changes: object) -> Backfill:
    """Return one of two places."""
    return records.make_backfill(**{"places": (("input", "flights/new/"), ("other", "x/")), **changes})


def test_every_page_of_every_place_is_counted_before_anyone_is_asked() -> None:
    backfill = count_page(make_backfill(), Counts(new=3), "more", NOW)
    backfill = count_page(backfill, Counts(known=2), None, NOW)
    assert (backfill.state, backfill.place, backfill.continuation) == (BackfillState.COUNTING, 1, None)

    backfill = count_page(backfill, Counts(unwanted=1), None, NOW)

    assert backfill.state is BackfillState.COUNTED
    assert backfill.plan == Counts(new=3, known=2, unwanted=1)
    assert backfill.confirmation is not None


def test_a_confirmed_backfill_lists_again_from_the_beginning() -> None:
    counted = count_page(make_backfill(places=(("input", ""),)), Counts(new=3), None, NOW)

    running = confirm(counted, NOW, by="ann")

    assert (running.state, running.place, running.counts) == (BackfillState.RUNNING, 0, Counts())
    assert running.plan == Counts(new=3)
    assert count_page(running, Counts(new=3), None, NOW).state is BackfillState.DONE


def test_one_that_is_confirmed_unseen_goes_on_by_itself() -> None:
    backfill = confirm(make_backfill(places=(("input", ""),)), NOW, by="ann")

    assert backfill.state is BackfillState.COUNTING
    assert count_page(backfill, Counts(new=1), None, NOW).state is BackfillState.RUNNING


def test_another_plan_needs_another_confirmation() -> None:
    one = count_page(make_backfill(places=(("input", ""),)), Counts(new=1), None, NOW)
    other = count_page(make_backfill(places=(("input", ""),)), Counts(new=2), None, NOW)

    assert one.confirmation != other.confirmation


@pytest.mark.parametrize("pages", [0, 1, 2])
def test_stopped_anywhere_it_goes_on_where_it_was(pages: int) -> None:
    backfill = make_backfill()
    for _ in range(pages):
        backfill = count_page(backfill, Counts(new=1), "more", NOW)

    stopped = stop(backfill, NOW, by="ann")
    again = go_on(stopped, NOW, by="bob")

    assert stopped.state is BackfillState.STOPPED
    assert (again.state, again.place, again.continuation) == (backfill.state, backfill.place, backfill.continuation)
    assert (again.counts, again.pages) == (backfill.counts, pages)


def test_stopping_what_is_over_changes_nothing() -> None:
    done = make_backfill(state=BackfillState.DONE)

    assert stop(done, NOW, by="ann") is done
    assert go_on(done, NOW, by="ann") is done
    assert confirm(done, NOW, by="ann") is done


def test_a_listing_that_begins_again_counts_again() -> None:
    backfill = count_page(make_backfill(), Counts(new=3), None, NOW)

    again = start_over(backfill, NOW, "the page is gone")

    assert (again.place, again.continuation, again.counts, again.pages) == (0, None, Counts(), 0)


def test_every_state_is_in_the_table_and_done_is_final() -> None:
    assert set(BACKFILL_TRANSITIONS) == set(BackfillState)
    assert BACKFILL_TRANSITIONS[BackfillState.DONE] == frozenset()


@pytest.mark.parametrize(
    ("prefix", "places"),
    [
        ("", (("input", "flights/new/"),)),
        ("flights/", (("input", "flights/new/"),)),
        ("flights/new/2013-0", (("input", "flights/new/2013-0"),)),
        ("flights/old/", ()),
        ("flights/newer/", ()),
    ],
)
def test_only_what_the_pipeline_reads_is_listed(prefix: str, places: tuple[tuple[str, str], ...]) -> None:
    assert places_of(make_pipelines().get(SCORING), prefix) == places


def test_the_same_arguments_are_the_same_backfill() -> None:
    one = backfill_id_of(SCORING, "a", None, NOW, again=False)

    assert one == backfill_id_of(SCORING, "a", None, NOW, again=False)
    others = [
        backfill_id_of(PipelineKey("p"), "a", None, NOW, again=False),
        backfill_id_of(SCORING, "b", None, NOW, again=False),
        backfill_id_of(SCORING, "a", NOW, None, again=False),
        backfill_id_of(SCORING, "a", None, NOW, again=True),
    ]
    assert len({one, *others}) == 5


@given(
    counts=st.builds(Counts, new=st.integers(0, 2**31), known=st.integers(0, 9)),
    continuation=st.none() | st.text(max_size=50).filter(lambda text: text.isprintable()),
    state=st.sampled_from(BackfillState),
    plan=st.none() | st.builds(Counts, again=st.integers(0, 9)),
    again=st.booleans(),
)
def test_a_row_gives_the_backfill_back(
    counts: Counts, continuation: str | None, state: BackfillState, plan: Counts | None, *, again: bool
) -> None:
    backfill = make_backfill(counts=counts, continuation=continuation, state=state, plan=plan, again=again)

    assert backfill_from_row(backfill_to_row(backfill)) == backfill


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "pipeline"),
        (b"[]", "body"),
        (b'{"pipeline": "nobody"}', "pipeline"),
        (f'{{"pipeline": "{TRAINING}"}}'.encode(), "pipeline"),
        (f'{{"pipeline": "{SCORING}", "prefix": "elsewhere/"}}'.encode(), "prefix"),
        (f'{{"pipeline": "{SCORING}", "since": "yesterday"}}'.encode(), "since"),
        (f'{{"pipeline": "{SCORING}", "since": "2027-01-01T00:00:00Z"}}'.encode(), "since"),
        (
            f'{{"pipeline": "{SCORING}", "since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}}'.encode(),
            "until",
        ),
        (f'{{"pipeline": "{SCORING}", "per_minute": 0}}'.encode(), "per_minute"),
        (f'{{"pipeline": "{SCORING}", "per_minute": 100000}}'.encode(), "per_minute"),
        (f'{{"pipeline": "{SCORING}", "again": "yes"}}'.encode(), "again"),
        (f'{{"pipeline": "{SCORING}", "confirm": "x"}}'.encode(), "confirm"),
        (f'{{"pipeline": "{SCORING}", "stop": true, "yes": true}}'.encode(), "stop"),
        (f'{{"pipeline": "{SCORING}", "colour": "red"}}'.encode(), "colour"),
        (f'{{"pipeline": "{SCORING}", "prefix": "flights/new/\\u0000"}}'.encode(), "prefix"),
        (b"[" * 100_000, "body"),
        (b" " * 70_000, "body"),
        (f'{{"pipeline": "{SCORING}", "pipeline": "{SCORING}"}}'.encode(), "body"),
    ],
)
def test_a_wrong_request_is_refused_with_the_field(body: bytes, field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_backfill_request(body, pipelines=make_pipelines(), now=NOW)

    assert [problem.place for problem in refused.value.problems] == [field]


def test_a_backfill_of_nothing_is_not_built() -> None:
    with pytest.raises(ValueError, match="at least one place"):
        make_backfill(places=())


def test_before_it_is_counted_there_is_nothing_to_confirm() -> None:
    assert make_backfill().confirmation is None


def test_stopped_while_it_waited_for_a_word_it_still_waits_for_it() -> None:
    """Whoever only repeats a command has confirmed nothing."""
    counted = count_page(make_backfill(places=(("input", ""),)), Counts(new=3), None, NOW)

    again = go_on(stop(counted, NOW, by="ann"), NOW, by="bob")
    confirmed = confirm(again, NOW, by="bob")

    assert (again.state, again.is_confirmed, again.plan) == (BackfillState.COUNTED, False, Counts(new=3))
    assert (confirmed.state, confirmed.counts) == (BackfillState.RUNNING, Counts())
    assert confirmed.history[-1].note == "confirmed by bob"


def test_stopped_while_it_runs_it_keeps_its_confirmation_and_its_page() -> None:
    backfill = confirm(count_page(make_backfill(places=(("input", ""),)), Counts(new=3), None, NOW), NOW, by="ann")
    running = count_page(backfill, Counts(new=1), "more", NOW)

    again = go_on(stop(running, NOW, by="ann"), NOW, by="bob")

    assert (again.state, again.continuation, again.counts) == (BackfillState.RUNNING, "more", Counts(new=1))


def test_what_is_over_cannot_be_given_up() -> None:
    """A step that was asleep must not reopen a backfill that another one has finished."""
    with pytest.raises(IllegalTransitionError):
        give_up(make_backfill(state=BackfillState.DONE), NOW, "the container is gone")


def test_places_within_others_are_listed_once() -> None:
    """Whichever comes first, and only within one container."""
    text = PIPELINES_TOML.replace("quiet_seconds = QUIET, max_wait_seconds = MAX_WAIT, max_files = MAX_FILES", "")
    text = text.replace('policy = "POLICY", max_active = MAX_ACTIVE', 'policy = "parallel"')
    text += "".join(
        f'[[pipelines.{SCORING}.routes]]\nname = "r{index}"\ncontainer = "{container}"\nprefix = "{prefix}"\n'
        for index, (container, prefix) in enumerate(
            [("input", "flights/new/deep/"), ("other", "flights/new/"), ("input", "flights/")]
        )
    )
    pipelines = parse_pipelines(text.encode(), file="p", known_jobs=[JobKey("training"), JobKey("scoring")])

    assert places_of(pipelines.get(SCORING), "") == (("other", "flights/new/"), ("input", "flights/"))
    assert places_of(pipelines.get(SCORING), "flights/new/d") == (
        ("input", "flights/new/d"),
        ("other", "flights/new/d"),
    )
