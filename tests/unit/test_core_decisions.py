"""Holds decisions to their rules: pure, total, always with a reason, and repeatable after a crash."""

import ast
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from functions.core.batching import close_batch
from functions.core.decided import (
    ArrivalsInput,
    Decision,
    Hold,
    ListedInput,
    NamedInput,
    Situation,
    Skip,
    StartRun,
)
from functions.core.decisions import COMMITTING_APIS, decide, is_newer
from functions.core.errors import IllegalPlanError, ParametersTooLargeError
from functions.core.explain import explain, explanation_lines
from functions.core.freezing import Frozen, freeze, parameters_of, token_of, wanted_scores_of
from functions.core.ledger import Arrival
from functions.core.model import (
    ArrivalState,
    BlobCreated,
    BlobVersion,
    IdempotencyToken,
    JobKey,
    OtherBlobEvent,
    PipelineKey,
    RunKind,
    RunRequested,
    SlotDue,
    Stage,
)
from functions.core.parameters import MAX_PARAMETERS_BYTES, STAGES_OF_KIND, size_of
from functions.core.pipelines import Pipelines
from functions.core.pipelines_toml import parse_pipelines
from functions.core.reasons import HoldReason, SkipReason
from functions.core.routing import find_route
from functions.core.stages import missing_prerequisites, plan_stages
from functions.core.tokens import arrival_id_of
from tests.strategies import blob_events, blob_versions, run_requests, slots

ROOT = Path(__file__).parents[2]
T0 = datetime(2026, 1, 1, 3, tzinfo=UTC)
TOML = """
schema = 1
[pipelines.train]
kind = "training"
job = "training"
model = "main.tidegate.m"
callers_may_set = ["seed"]
[pipelines.train.training_data]
container = "input"
prefix = "history/"
[[pipelines.train.schedules]]
name = "monthly"
cron = "0 0 3 1 * *"
missed = "skip"
[pipelines.score]
kind = "scoring"
job = "scoring"
model = "main.tidegate.m"
[[pipelines.score.routes]]
name = "csv"
container = "input"
prefix = "new/"
glob = "*.csv"
min_size_bytes = 10
max_size_bytes = 1000
content_types = ["text/csv"]
[[pipelines.score.routes]]
name = "parquet"
container = "input"
prefix = "new/"
glob = "*"
suffix = ".parquet"
[pipelines.score.output]
container = "scores"
"""


def make_pipelines(extra: str = "") -> Pipelines:
    jobs = [JobKey("training"), JobKey("scoring")]
    return parse_pipelines((TOML + extra).encode(), file="pipelines.toml", known_jobs=jobs)


PIPELINES = make_pipelines()
TRAIN, SCORE = PipelineKey("train"), PipelineKey("score")
HERE = Situation(environment="local", account="acct", model_version="3")


def make_blob(path: str = "new/a.parquet", **changes: Any) -> BlobVersion:
    fields: dict[str, Any] = {"account": "acct", "container": "input", "etag": "0x8D", "size_bytes": 100}
    return BlobVersion(path=path, **(fields | changes))


def make_created(
    path: str = "new/a.parquet", *, api: str = "PutBlob", content_type: str = "", **blob: Any
) -> BlobCreated:
    return BlobCreated(
        event_id="e", event_time=T0, api=api, blob=make_blob(path, **blob), content_type=content_type, traceparent=None
    )


def make_arrival(path: str = "new/a.parquet", *, after_s: float = 0, **changes: Any) -> Arrival:
    blob = make_blob(path)
    at = T0 + timedelta(seconds=after_s)
    fields: dict[str, Any] = {
        "id": arrival_id_of(blob),
        "blob": blob,
        "state": ArrivalState.HELD,
        "event_id": "e",
        "event_time": at,
        "api": "PutBlob",
        "content_type": "",
        "recorded_at": at,
        "updated_at": at,
        "pipeline": SCORE,
    }
    return Arrival(**(fields | changes))


def make_slot(**changes: Any) -> SlotDue:
    fields: dict[str, Any] = {"pipeline": TRAIN, "schedule": "monthly", "slot": T0, "is_past_due": False}
    return SlotDue(**(fields | changes))


def make_request(**changes: Any) -> RunRequested:
    fields: dict[str, Any] = {"pipeline": TRAIN, "request_id": "key-1", "requested_at": T0}
    return RunRequested(**(fields | changes))


def reason_of(decision: Decision) -> SkipReason | HoldReason:
    assert isinstance(decision, Skip | Hold)
    return decision.reason


def started(decision: Decision) -> StartRun:
    assert isinstance(decision, StartRun)
    return decision


def frozen(start: StartRun, files: tuple[BlobVersion, ...] = (make_blob(),), **changes: Any) -> Frozen:
    result = freeze(start, files, replace(HERE, **changes), now=T0 + timedelta(hours=1))
    assert isinstance(result, Frozen)
    return result


# Blobs


def test_one_byte_is_content() -> None:
    """R03: a file with nothing in it is none, one with a byte is for the run to judge."""
    anything = replace(PIPELINES.get(SCORE).routes[0], min_size_bytes=0, content_types=frozenset())
    pipelines = replace(PIPELINES, pipelines=(replace(PIPELINES.get(SCORE), routes=(anything,)),))

    one, none = (decide(make_created("new/a.csv", size_bytes=size), pipelines, HERE) for size in (1, 0))

    assert isinstance(one, Hold)
    assert reason_of(none) is SkipReason.ZERO_BYTES


def test_wanted_blob_is_held_for_its_pipeline() -> None:
    decision = decide(make_created(), PIPELINES, HERE)

    assert isinstance(decision, Hold)
    assert (decision.pipeline, decision.route, decision.wait_s) == (SCORE, "parquet", 0)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (make_created(account="other"), SkipReason.FOREIGN_ACCOUNT),
        (make_created("manifests/score/x.json", container="tidegate"), SkipReason.CONTROL_CONTAINER),
        (make_created("poison/x.json", container="deadletter"), SkipReason.CONTROL_CONTAINER),
        (make_created("score/batch=1/part-0.parquet", container="scores"), SkipReason.OWN_OUTPUT),
        (make_created(api="CreateFile", size_bytes=0), SkipReason.UNCOMMITTED_API),
        (make_created(api="SetBlobProperties"), SkipReason.UNCOMMITTED_API),
        (make_created(size_bytes=0), SkipReason.ZERO_BYTES),
        (make_created(container="elsewhere"), SkipReason.UNKNOWN_CONTAINER),
        (make_created("somebody", container="scores"), SkipReason.UNKNOWN_CONTAINER),
        (make_created("history/2013-01.parquet"), SkipReason.TRAINING_DATA),
        (make_created("newer/a.parquet"), SkipReason.NO_ROUTE),
        (make_created("new/deep/a.txt"), SkipReason.NO_ROUTE),
        (make_created("new/../new/a.txt"), SkipReason.NO_ROUTE),
    ],
    ids=lambda value: value.value if isinstance(value, SkipReason) else value.blob.path,
)
def test_unwanted_blob_is_skipped_with_the_reason(event: BlobCreated, reason: SkipReason) -> None:
    """R03, R20: nothing is ignored in silence."""
    assert reason_of(decide(event, PIPELINES, HERE)) is reason


def test_deletion_is_recorded_and_starts_nothing() -> None:
    event = OtherBlobEvent(
        event_id="e", event_time=T0, event_type="Microsoft.Storage.BlobDeleted", api="DeleteBlob", blob=make_blob()
    )

    decision = decide(event, PIPELINES, HERE)

    assert str(decision) == "only created blobs start runs: Microsoft.Storage.BlobDeleted"


@pytest.mark.parametrize("api", sorted(COMMITTING_APIS))
def test_every_committing_call_counts(api: str) -> None:
    assert isinstance(decide(make_created(api=api), PIPELINES, HERE), Hold)


@given(event=blob_events(), account=st.booleans())
def test_own_outputs_and_own_data_never_trigger(event: BlobCreated, account: bool) -> None:
    """I8, whatever the name, the call and the size."""
    for container, prefix in (("scores", "score/"), ("tidegate", ""), ("deadletter", "")):
        blob = replace(event.blob, account="acct", container=container, path=prefix + event.blob.path)

        assert isinstance(decide(replace(event, blob=blob), PIPELINES, HERE), Skip)


@given(event=blob_events(blob=blob_versions(account=st.sampled_from(["acct", "other"]), container=st.sampled_from(
    ["input", "scores", "tidegate", "elsewhere"]))) | slots | run_requests)  # fmt: skip
def test_any_event_has_a_decision_and_always_the_same(event: BlobCreated | SlotDue | RunRequested) -> None:
    """R15: pure and total."""
    first = decide(event, PIPELINES, HERE)

    assert first == decide(event, PIPELINES, HERE)
    assert json.dumps(explain(event, first, HERE)) == json.dumps(explain(event, first, HERE))
    if isinstance(first, Skip | Hold):
        assert first.reason.sentence


@given(path=st.text(max_size=30))
def test_route_in_never_matches_inbox(path: str) -> None:
    routing = find_route(make_blob("newx/" + path), "", PIPELINES)

    assert routing.route is None


@pytest.mark.parametrize(
    ("blob", "content_type", "why"),
    [
        (make_blob(container="other"), "", "container 'other' is not 'input'"),
        (make_blob("old/a.csv"), "", "the path does not begin with 'new/'"),
        (make_blob("new/a/b.csv"), "", "'a/b.csv' does not match '*.csv'"),
        (make_blob("new/a.csv", size_bytes=9), "", "9 bytes are less than 10"),
        (make_blob("new/a.csv", size_bytes=1001), "", "1001 bytes are more than 1000"),
        (make_blob("new/a.csv"), "image/png", "content type 'image/png' is not one of text/csv"),
        (make_blob("new/a.csv"), "Text/CSV; charset=utf-8", "matches input/new/*.csv"),
    ],
)
def test_route_says_why(blob: BlobVersion, content_type: str, why: str) -> None:
    """R04."""
    tried = find_route(blob, content_type, PIPELINES).tried

    assert (tried[0].pipeline, tried[0].route, tried[0].why) == (SCORE, "csv", why)
    assert tried[0].is_match == why.startswith("matches")


def test_suffix_that_does_not_match_is_named() -> None:
    tried = find_route(make_blob("new/a.txt"), "", PIPELINES).tried

    assert tried[1].why == "the path does not end with '.parquet'"


def test_first_route_that_matches_wins() -> None:
    overlapping = make_pipelines("""
[pipelines.late]
kind = "scoring"
job = "scoring"
model = "main.tidegate.m"
[[pipelines.late.routes]]
name = "all"
container = "input"
prefix = "new/"
[pipelines.late.output]
container = "late"
""")

    assert find_route(make_blob("new/a.parquet"), "", overlapping).tried[-1].pipeline == SCORE
    assert find_route(make_blob("new/a.txt"), "", overlapping).tried[-1].pipeline == "late"


@pytest.mark.parametrize(
    ("one", "other", "is_later"),
    [
        ({"sequencer": "0a", "etag": "2"}, {"sequencer": "9", "etag": "1"}, True),
        ({"sequencer": "9", "etag": "2"}, {"sequencer": "0a", "etag": "1"}, False),
        ({"sequencer": None, "etag": "2"}, {"sequencer": "1", "etag": "1"}, False),
        ({"sequencer": "2", "etag": "2"}, {"sequencer": None, "etag": "1"}, False),
        ({"sequencer": "2", "etag": "1"}, {"sequencer": "1", "etag": "1"}, False),
        ({"sequencer": "2", "etag": "2", "container": "other"}, {"sequencer": "1", "etag": "1"}, False),
    ],
)
def test_sequencers_order_versions_of_one_path(one: dict[str, Any], other: dict[str, Any], is_later: bool) -> None:
    """R12: opaque texts of any width, and only where both are known."""
    assert is_newer(make_blob(**one), make_blob(**other)) == is_later


def test_version_that_was_overtaken_is_not_scored() -> None:
    """R12: an older version whose event comes late starts nothing."""
    known = make_blob(sequencer="00ff", etag="newer")
    situation = replace(HERE, known_versions=(known,))

    assert reason_of(decide(make_created(sequencer="00fe"), PIPELINES, situation)) is SkipReason.OLDER_VERSION
    assert isinstance(decide(make_created(sequencer="0100"), PIPELINES, situation), Hold)


# Slots and requests


def test_slot_starts_training_on_the_training_data() -> None:
    start = started(decide(make_slot(traceparent="t"), PIPELINES, HERE))

    assert start.run_id.startswith("train-20260101T030000Z-")
    assert start.input == ListedInput(places=(("input", "history/", "**", ""),))
    assert (start.model_version, start.traceparent, start.pipeline.job) == (None, "t", "training")
    assert start.parameters == {"learning_rate": "0.05", "num_leaves": "15", "n_estimators": "150", "seed": "13"}


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (make_slot(pipeline=PipelineKey("gone")), SkipReason.UNKNOWN_PIPELINE),
        (make_slot(schedule="gone"), SkipReason.UNKNOWN_SCHEDULE),
        (make_slot(is_past_due=True), SkipReason.MISSED_SLOT),
        (make_request(pipeline=PipelineKey("gone")), SkipReason.UNKNOWN_PIPELINE),
        (make_request(stages={Stage.TRAINING: False}), SkipReason.ILLEGAL_PLAN),
        (make_request(stages={Stage.BATCH_SCORING: True}), SkipReason.ILLEGAL_PLAN),
        (make_request(files=(("scores", "history/a"),)), SkipReason.FILES_OF_FOREIGN_PLACE),
    ],
)
def test_what_cannot_run_is_skipped_with_the_reason(event: SlotDue | RunRequested, reason: SkipReason) -> None:
    assert reason_of(decide(event, PIPELINES, HERE)) is reason


def test_request_may_choose_stages_parameters_and_files() -> None:
    event = make_request(
        stages={Stage.PUBLISH: False}, parameters={"seed": "99"}, files=(("input", "history/2013-01.parquet"),)
    )

    start = started(decide(event, PIPELINES, HERE))

    assert start.stages[Stage.PUBLISH] is False
    assert start.stages[Stage.TRAINING] is True
    assert start.parameters["seed"] == "99"
    assert start.input == NamedInput(blobs=(("input", "history/2013-01.parquet"),))


def test_scoring_without_files_takes_what_its_routes_want() -> None:
    start = started(decide(make_request(pipeline=SCORE), PIPELINES, HERE))

    assert start.input == ListedInput(
        places=(("input", "new/", "*.csv", ""), ("input", "new/", "*", ".parquet")),
    )
    assert start.model_version == "3"


def test_scoring_without_a_model_is_refused_by_name() -> None:
    """R17: having no model yet is a value, never version 1 by guess."""
    decision = decide(make_request(pipeline=SCORE), PIPELINES, replace(HERE, model_version=None))

    assert str(decision) == "no model version has the pipeline's alias yet; train one first: main.tidegate.m@champion"


def test_checkpoint_stands_in_for_a_stage() -> None:
    event = make_request(pipeline=SCORE, stages={Stage.VALIDATION: False})

    refused = decide(event, PIPELINES, HERE)
    allowed = decide(event, PIPELINES, replace(HERE, checkpoints=frozenset({Stage.VALIDATION})))

    assert isinstance(refused, Skip)
    assert refused.detail == ("feature_engineering needs validation; batch_scoring needs validation")
    assert isinstance(allowed, StartRun)


NEEDS = {
    RunKind.TRAINING: {
        Stage.TRAINING: {Stage.FEATURE_ENGINEERING},
        Stage.EVALUATION: {Stage.FEATURE_ENGINEERING, Stage.TRAINING},
        Stage.PUBLISH: {Stage.FEATURE_ENGINEERING, Stage.TRAINING},
    },
    RunKind.SCORING: {
        Stage.FEATURE_ENGINEERING: {Stage.VALIDATION},
        Stage.BATCH_SCORING: {Stage.VALIDATION, Stage.FEATURE_ENGINEERING},
        Stage.PUBLISH: {Stage.BATCH_SCORING},
    },
}


@given(
    kind=st.sampled_from(RunKind),
    on=st.sets(st.sampled_from(Stage), min_size=1),
    checkpoints=st.sets(st.sampled_from(Stage)),
)
def test_plan_is_accepted_exactly_if_it_can_work(kind: RunKind, on: set[Stage], checkpoints: set[Stage]) -> None:
    """R17: walking the stages in order, everything that one needs is there."""
    stages = {stage: stage in on for stage in STAGES_OF_KIND[kind]}
    there = set(checkpoints)
    can_work = any(stages.values())
    for stage in STAGES_OF_KIND[kind]:
        if stages[stage]:
            can_work = can_work and NEEDS[kind].get(stage, set()) <= there
            there.add(stage)

    missing = missing_prerequisites(kind, stages, checkpoints=checkpoints)

    assert (missing == ()) == can_work


def test_notebooks_need_the_same_stages() -> None:
    """A plan that one side accepts and the other refuses would be a run that cannot work."""
    source = (ROOT / "databricks_runtime/mlops/src/tidegate_mlops/plan.py").read_text()
    (needs,) = (
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "NEEDS"
    )
    theirs = eval(ast.unparse(needs or ast.Dict()), {"Stage": Stage})

    assert {
        kind: {stage: set(needed) for stage, needed in stages.items() if needed} for kind, stages in theirs.items()
    } == NEEDS


def test_illegal_plan_names_what_is_missing() -> None:
    train = PIPELINES.get(TRAIN)

    with pytest.raises(IllegalPlanError, match="evaluation needs training; publish needs training"):
        plan_stages(TRAIN, RunKind.TRAINING, train.stages, {Stage.TRAINING: False})


def test_plan_without_a_stage_is_refused() -> None:
    off = dict.fromkeys(PIPELINES.get(SCORE).stages, False)

    assert missing_prerequisites(RunKind.SCORING, off, checkpoints=()) == ("at least one stage must be on",)


# Batches


def close(held: list[Arrival], *, extra: str = "", now_s: float = 0, **situation: Any) -> Decision:
    pipelines = make_pipelines(extra)
    return close_batch(
        pipelines.get(SCORE), held, pipelines, replace(HERE, **situation), now=T0 + timedelta(seconds=now_s)
    )


def test_without_a_window_an_arrival_starts_at_once() -> None:
    arrival = make_arrival(traceparent="t")

    start = started(close([arrival]))

    assert start.input == ArrivalsInput(arrivals=(arrival,))
    assert (start.model_version, start.traceparent, start.cause.at) == ("3", "t", T0)
    assert start.run_id.startswith("score-20260101T030000Z-")


def test_nothing_held_is_nothing_to_do() -> None:
    assert reason_of(close([])) is HoldReason.NOTHING_HELD


WINDOW = "[pipelines.score.batching]\nquiet_seconds = 30\nmax_wait_seconds = 60\nmax_files = 3\n"


@pytest.mark.parametrize(
    ("arrived_s", "now_s", "wait_s"),
    [
        ([0], 10, 20),
        ([0], 30, None),
        ([0, 20], 30, 20),
        ([0, 20, 40], 45, None),  # as many as fit
        ([0, 50], 55, 5),  # the first has waited long enough
        ([0, 50], 60, None),
        ([0], -100, 130),  # a clock that jumped back waits longer, and decides the same in the end
        ([0], -300, 330),
        ([0], -301, None),  # one that was wrong by far holds nothing
        ([-20, 86_400], -10, None),
    ],
)
def test_window_closes_when_quiet_full_or_old(arrived_s: list[float], now_s: float, wait_s: float | None) -> None:
    """R09."""
    held = [make_arrival(f"new/{index}.parquet", after_s=after) for index, after in enumerate(arrived_s)]

    decision = close(held, extra=WINDOW, now_s=now_s)

    assert (decision.wait_s if isinstance(decision, Hold) else None) == wait_s


def test_batch_takes_the_oldest_files_and_leaves_the_rest() -> None:
    held = [make_arrival(f"new/{index}.parquet", after_s=10 - index) for index in range(5)]

    start = started(close(held, extra=WINDOW))

    assert isinstance(start.input, ArrivalsInput)
    assert [arrival.blob.path for arrival in start.input.arrivals] == [
        "new/4.parquet",
        "new/3.parquet",
        "new/2.parquet",
    ]


@given(order=st.permutations(range(4)))
def test_batch_does_not_depend_on_the_order_of_reading(order: list[int]) -> None:
    """Two workers that look at the same held arrivals want the same run."""
    held = [make_arrival(f"new/{index}.parquet") for index in range(4)]

    assert close([held[index] for index in order]) == close(held)


def test_arrival_waits_for_a_model() -> None:
    decision = close([make_arrival()], model_version=None)

    assert isinstance(decision, Hold)
    assert (decision.reason, decision.wait_s) == (HoldReason.NO_MODEL_YET, 15)


@pytest.mark.parametrize(
    ("policy", "active", "expected"),
    [
        ('"parallel"\nmax_active = 2', 1, "start"),
        ('"parallel"\nmax_active = 2', 2, HoldReason.AT_CAPACITY),
        ('"queue"', 0, "start"),
        ('"queue"', 1, HoldReason.AT_CAPACITY),
        ('"supersede"', 0, "start"),
        ('"supersede"', 1, "cancel"),
        ('"drop"', 0, "start"),
        ('"drop"', 1, SkipReason.DROPPED_WHILE_ACTIVE),
    ],
)
def test_concurrency_policy(policy: str, active: int, expected: object) -> None:
    """R26."""
    decision = close([make_arrival()], extra=f"[pipelines.score.concurrency]\npolicy = {policy}\n", active_runs=active)

    if isinstance(decision, StartRun):
        assert expected == ("cancel" if decision.must_cancel_active else "start")
    else:
        assert decision.reason is expected


# Freezing


def test_frozen_run_is_the_same_whenever_it_is_frozen() -> None:
    """I6: a crash between the manifest and the ledger repeats both, byte by byte."""
    start = started(close([make_arrival()]))

    first = freeze(start, [make_blob()], HERE, now=T0)
    second = freeze(start, [make_blob(), make_blob()], HERE, now=T0 + timedelta(days=1))

    assert isinstance(first, Frozen)
    assert isinstance(second, Frozen)
    assert first.manifest.to_bytes() == second.manifest.to_bytes()
    assert (first.run.manifest, token_of(first.run)) == (second.run.manifest, token_of(second.run))


def test_frozen_run_says_where_everything_is() -> None:
    arrival = make_arrival()
    run = frozen(started(close([arrival]))).run

    assert run.output_url == f"https://acct.blob.core.windows.net/scores/score/batch={run.batch_id}/model_version=3"
    assert run.manifest is not None
    assert run.manifest.url == f"https://acct.blob.core.windows.net/tidegate/manifests/score/{run.id}.json"
    assert (run.arrivals, run.arrival_count, run.file_count) == ((arrival.id,), 1, 1)
    assert (run.config_version, run.max_attempts) == (PIPELINES.version, 1)
    wanted = wanted_scores_of(run)
    assert (wanted.manifest_sha256, wanted.model_version, wanted.file_count) == (run.manifest.sha256, "3", 1)


def test_files_that_no_arrival_brought_are_marked_so() -> None:
    start = started(decide(make_slot(), PIPELINES, HERE))

    result = frozen(start, (make_blob("history/a"), make_blob("history/b")))

    assert [file.arrival_id for file in result.manifest.files] == [None, None]
    assert (result.run.arrival_count, result.run.file_count, result.run.output_url) == (0, 2, "")


@pytest.mark.parametrize(
    ("event", "reason"),
    [(make_slot(), SkipReason.NO_TRAINING_DATA), (make_request(pipeline=SCORE), SkipReason.NO_INPUT)],
)
def test_run_without_a_file_is_not_started(event: SlotDue | RunRequested, reason: SkipReason) -> None:
    result = freeze(started(decide(event, PIPELINES, HERE)), [], HERE, now=T0)

    assert isinstance(result, Skip)
    assert result.reason is reason


def test_persisted_token_is_the_only_authority() -> None:
    run = frozen(started(close([make_arrival()]))).run
    token = IdempotencyToken("f" * 64)

    assert re.fullmatch("[0-9a-f]{64}", token_of(run))
    assert token_of(replace(run, token=token)) == token
    assert parameters_of(replace(run, token=token))["token"] == token
    assert token_of(replace(run, manifest=None)) != token_of(run)


@given(
    stages=st.dictionaries(st.sampled_from([Stage.VALIDATION, Stage.PUBLISH]), st.booleans()),
    version=st.integers(1, 10**6).map(str),
    path=st.text(st.characters(codec="utf-8"), min_size=1, max_size=50),
)
def test_parameters_are_what_their_schema_says(stages: dict[Stage, bool], version: str, path: str) -> None:
    """R18: both sides read the same contract; a blob's name never reaches a parameter."""
    schema = json.loads((ROOT / "docs/contracts/parameters.schema.json").read_text())
    for event, situation in ((make_slot(), HERE), (make_request(pipeline=SCORE), replace(HERE, model_version=version))):
        run = frozen(started(decide(event, PIPELINES, situation)), (make_blob(path),)).run
        run = replace(run, stages={**run.stages, **{stage: on for stage, on in stages.items() if stage in run.stages}})

        parameters = parameters_of(run)

        Draft202012Validator(schema).validate(parameters | {"release": "1.2.3+g0123abc"})
        assert "release" not in parameters


def test_parameters_before_the_manifest_are_empty_there() -> None:
    run = replace(frozen(started(close([make_arrival()]))).run, manifest=None)

    assert (parameters_of(run)["manifest_url"], wanted_scores_of(run).manifest_url) == ("", "")


def test_parameters_beyond_the_limit_are_refused_before_the_call() -> None:
    """R28."""
    run = frozen(started(close([make_arrival()]))).run

    with pytest.raises(ParametersTooLargeError, match="expected at most 10000"):
        parameters_of(replace(run, model_name="x" * 10_000))
    room = MAX_PARAMETERS_BYTES - size_of(parameters_of(replace(run, model_name="")))
    assert size_of(parameters_of(replace(run, model_name="x" * room))) == 10_000
    with pytest.raises(ParametersTooLargeError, match="10001"):
        parameters_of(replace(run, model_name="x" * (room + 1)))


# Explaining


def test_skip_is_explained_with_every_route_that_was_tried() -> None:
    """R19."""
    event = make_created("new/a.txt", size_bytes=5)

    document = explain(event, decide(event, PIPELINES, HERE), HERE)

    assert json.loads(json.dumps(document))["decision"]["reason"] == "no_route"
    assert explanation_lines(document) == [
        "event:",
        "  kind: blob created",
        "  url: https://acct.blob.core.windows.net/input/new/a.txt",
        "  etag: 0x8D",
        "  size_bytes: 5",
        "  api: PutBlob",
        "  time: 2026-01-01T03:00:00.000000Z",
        "environment: local",
        "decision:",
        "  action: skip",
        "  reason: no_route",
        (
            "  why: no route matches the blob: score.csv: 'a.txt' does not match '*.csv'; score.parquet: the path does "
            "not end with '.parquet'"
        ),
        "routes_tried:",
        "  - pipeline score, route csv, matches no, why 'a.txt' does not match '*.csv'",
        "  - pipeline score, route parquet, matches no, why the path does not end with '.parquet'",
    ]


def test_held_arrival_is_explained_up_to_the_token_and_the_parameters() -> None:
    """R19: the token shown is the token that will be sent."""
    event = make_created()
    start = started(close([make_arrival()]))
    result = frozen(start)

    document = explain(event, decide(event, PIPELINES, HERE), HERE, then=start, frozen=result)

    shown = json.loads(json.dumps(document))
    assert shown["decision"]["action"] == "hold"
    assert shown["then"]["stages"] == {
        "validation": True, "feature_engineering": True, "batch_scoring": True, "publish": True
    }  # fmt: skip
    assert (shown["run"]["token"], shown["run"]["job"]) == (token_of(result.run), "scoring")
    assert shown["run"]["parameters"] == parameters_of(result.run)
    lines = explanation_lines(document)
    assert f"  token: {token_of(result.run)}" in lines
    assert "  files:" in lines
    assert "    - https://acct.blob.core.windows.net/input/new/a.parquet" in lines
    assert "    validation: yes" in lines


def test_a_file_that_waits_for_others_is_explained_with_what_it_waits_for() -> None:
    """R19: at once is wrong where a folder has to be complete first."""
    pipelines = make_pipelines('[pipelines.score.readiness]\nkind = "count"\ncount = 2\n')
    event = make_created("new/a.parquet")

    lines = explanation_lines(explain(event, decide(event, pipelines, HERE), HERE))

    assert f"  why: {HoldReason.NOT_READY.sentence}" in lines
    assert "  consignment: input/new/" in lines


def test_slots_requests_and_deletions_are_explained_too() -> None:
    deletion = OtherBlobEvent(event_id="e", event_time=T0, event_type="x.Deleted", api="", blob=make_blob())
    request = make_request(files=(("input", "history/a"),))

    kinds = []
    for event in (deletion, make_slot(), request):
        document = explain(event, decide(event, PIPELINES, HERE), HERE)
        kinds.append(document["event"])
        assert "routes_tried: none" in explanation_lines(document)

    assert [kind["kind"] for kind in kinds if isinstance(kind, dict)] == ["x.Deleted", "schedule", "request"]


def test_every_reason_is_documented() -> None:
    """A code that someone finds in the ledger is explained in docs/pipelines.md, in the same words."""
    text = (ROOT / "docs/pipelines.md").read_text()
    rows = [f"| `{reason.value}` | {reason.sentence} |" for reason in (*SkipReason, *HoldReason)]

    assert len(rows) > 15
    assert [row for row in rows if row not in text] == []
