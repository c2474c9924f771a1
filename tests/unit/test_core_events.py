"""Holds the events of the completion topic to their schemas, and their readers to refusing everything else."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from functions.core.announcements import read_topic_event
from functions.core.completion import CompletionEvent, completion_event_id
from functions.core.envelope import MAX_EVENT_BYTES
from functions.core.errors import InvalidDocumentError
from functions.core.held import HeldEvent
from functions.core.lineage import (
    FileRef,
    InputsRef,
    RefusedFile,
    RefusedRef,
    StageResult,
    file_digest,
)
from functions.core.model import (
    DatabricksRunId,
    Outcome,
    PipelineKey,
    RunKind,
    RunState,
    Stage,
    StageOutcome,
)
from functions.core.reasons import HoldReason
from functions.core.stalled import StalledEvent
from tests.strategies import completion_events, held_events, stalled_events
from tests.support.documents import BASE, NOON, RUN_ID, json_values, make_event, validator_of


def make_stall(**changes: Any) -> StalledEvent:
    fields: dict[str, Any] = {
        "run_id": RUN_ID,
        "attempt": 2,
        "pipeline": PipelineKey("scoring"),
        "kind": RunKind.SCORING,
        "environment": "local",
        "state": RunState.SUBMITTED,
        "since": NOON,
        "stalled_after_minutes": 60,
        "databricks_run_id": DatabricksRunId(7),
        "run_page_url": "https://adb-1.1.azuredatabricks.net/jobs/1/runs/7",
        "time": NOON,
    }
    return StalledEvent(**(fields | changes))


@given(event=completion_events())
def test_completion_event_is_what_its_schema_says(event: CompletionEvent) -> None:
    """Whatever a run was, its announcement is valid for any subscriber."""
    assert [*validator_of("completion-event").iter_errors(json.loads(event.to_json()))] == []


@given(event=completion_events())
def test_completion_event_survives_the_wire(event: CompletionEvent) -> None:
    assert CompletionEvent.from_json(event.to_json()) == event


@given(event=stalled_events)
def test_stalled_event_is_what_its_schema_says_and_survives_the_wire(event: StalledEvent) -> None:
    validator_of("stalled-event").validate(json.loads(event.to_json()))

    assert StalledEvent.from_json(event.to_json()) == event
    assert read_topic_event(event.to_json()) == event


@given(event=held_events)
def test_held_event_is_what_its_schema_says_and_survives_the_wire(event: HeldEvent) -> None:
    validator_of("held-event").validate(json.loads(event.to_json()))

    assert HeldEvent.from_json(event.to_json()) == event
    assert read_topic_event(event.to_json()) == event


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        ({"id": "x.held"}, "held event.id: got 'x.held'"),
        ({"type": "tidegate.x.held"}, "held event.type"),
        ({"data": {"reason": "paused"}}, "held event.data.reason: got 'paused', expected one of budget_spent"),
        ({"data": {"day": "2026-02-30"}}, "held event.data.day: got '2026-02-30'"),
        ({"data": {"begun": -1}}, "held event.data.begun"),
    ],
)
def test_held_event_that_contradicts_itself_is_refused(change: dict[str, Any], mistake: str) -> None:
    event = HeldEvent(
        pipeline=PipelineKey("scoring"),
        environment="local",
        reason=HoldReason.BUDGET_SPENT,
        day=NOON.date(),
        begun=3,
        max_runs_per_day=3,
        time=NOON,
    )
    data = event.to_data() | change.pop("data", {})

    with pytest.raises(InvalidDocumentError, match=mistake):
        HeldEvent.from_document(event.to_document() | {"data": data} | change)


def test_each_event_names_the_shape_of_its_data() -> None:
    """A publisher that writes the envelope itself takes the schema from the event."""
    for event in (make_event(), make_stall()):
        assert event.to_document()["dataschema"] == event.dataschema


@given(event=completion_events())
def test_the_topics_events_are_told_apart_by_their_type(event: CompletionEvent) -> None:
    assert read_topic_event(event.to_json().encode()) == event


@pytest.mark.parametrize("field", ["id", "source", "type", "subject"])
def test_stalled_event_whose_envelope_contradicts_its_data_is_refused(field: str) -> None:
    document = make_stall().to_document() | {field: "x.stalled"}

    with pytest.raises(InvalidDocumentError, match=f"stalled event.{field}: got 'x.stalled'"):
        StalledEvent.from_document(document)


@given(document=json_values)
def test_anything_else_is_no_announcement(document: object) -> None:
    """Fuzz reaches both readers as data, never as a crash."""
    types = ("tidegate.scoring.stalled", "tidegate.pipeline.held")
    for fuzz in (document, *({"type": name, "data": document} for name in types)):
        with pytest.raises(InvalidDocumentError):
            read_topic_event(json.dumps(fuzz))


@pytest.mark.parametrize("text", ["", "{", "[" * 50_000, " " * MAX_EVENT_BYTES])
def test_text_that_is_no_json_is_no_announcement(text: str) -> None:
    for read in (read_topic_event, StalledEvent.from_json, HeldEvent.from_json):
        with pytest.raises(InvalidDocumentError):
            read(text)


def test_completion_event_is_named_by_run_attempt_and_outcome() -> None:
    event = make_event(outcome=Outcome.TIMED_OUT)

    assert event.id == completion_event_id(RUN_ID, 2, Outcome.TIMED_OUT) == f"{RUN_ID}.2.timed_out"
    assert (event.type, event.source) == ("tidegate.scoring.timed_out", "/tidegate/local")
    assert event.subject == f"pipelines/scoring/runs/{RUN_ID}"


def test_completion_event_shortens_long_reasons_and_lists() -> None:
    """A stack trace in a reason cannot push the event over the topic's limit."""
    files = tuple(FileRef(url=f"{BASE}/input/{index}", etag="0x8D") for index in range(30))
    inputs = make_event().inputs
    assert inputs is not None
    stage = StageResult(name=Stage.PUBLISH, outcome=StageOutcome.FAILED, duration_s=0, reason="y" * 3000)
    event = make_event(
        reason="x" * 5000,
        stages=(stage,),
        inputs=InputsRef(
            manifest_url=inputs.manifest_url,
            manifest_sha256=inputs.manifest_sha256,
            batch_id=inputs.batch_id,
            file_count=30,
            files=files,
        ),
    )

    data = json.loads(event.to_json())["data"]

    assert len(data["reason"]) == 4000
    assert len(data["stages"][0]["reason"]) == 2000
    assert len(data["inputs"]["files"]) == 20


@pytest.mark.parametrize("character", ["x", '"', "\x00", "ü", "😀", "\\"])
def test_the_largest_lineage_stays_under_64_kb(character: str) -> None:
    """R56: every part as long as it may be, in characters that JSON and UTF-8 make longest, with long blob names."""
    url = f"{BASE}/input/" + "%F0%9F%98%80" * 250
    inputs, outputs = make_event().inputs, make_event().outputs
    assert inputs is not None
    assert outputs is not None
    event = make_event(
        reason=character * 5000,
        stages=tuple(
            StageResult(name=stage, outcome=StageOutcome.FAILED, duration_s=1e6, reason=character * 3000)
            for stage in Stage
        ),
        inputs=replace(
            inputs,
            manifest_url=f"{BASE}/tidegate/" + "m" * 4000,
            files=tuple(FileRef(url=f"{url}{index}", etag="0x8D" * 8) for index in range(20)),
        ),
        outputs=replace(
            outputs, scores_url=f"{BASE}/scores/" + "s" * 4000, manifest_url=f"{BASE}/scores/" + "m" * 4000
        ),
        metrics={f"metric_{index}": 0.1234567890123456 for index in range(40)},
        consignment="container/" + character * 1024,
        replaces=RUN_ID,
        refused=RefusedRef(
            file_count=500,
            files=tuple(
                RefusedFile(url=f"{url}{index}", etag="0x8D" * 8, reason=character * 500) for index in range(20)
            ),
            others=("0123456789ab",) * 600,
        ),
    )

    text = event.to_json()

    assert len(text.encode()) < MAX_EVENT_BYTES
    document = json.loads(text)
    validator_of("completion-event").validate(document)
    assert CompletionEvent.from_json(text).to_json() == text
    assert len(document["data"]["inputs"]["files"]) == 3
    assert document["data"]["inputs"]["file_count"] == 1
    assert document["data"]["refused"]["file_count"] == 500
    assert len(document["data"]["refused"]["files"]) == 2
    assert len(document["data"]["refused"]["others"]) == 200


def test_a_file_has_the_digest_that_notebooks_make_however_its_url_is_encoded() -> None:
    """The wheels' tests have the same one."""
    for name in ("%E2%82%AC", "%e2%82%ac", "€"):
        assert file_digest("https://acc.blob.core.windows.net/input/" + name * 500, "0x1") == "0b2bb4c46990"


def test_a_blobs_name_too_long_for_an_event_is_left_to_the_manifest() -> None:
    """1,024 characters of a name may be nine thousand in its URL; the event must still be one that can be read."""
    inputs = make_event().inputs
    assert inputs is not None
    files = (FileRef(url=f"{BASE}/input/a", etag="0x1"), FileRef(url=f"{BASE}/input/" + "%E2%82%AC" * 1024, etag="0x2"))

    text = make_event(inputs=replace(inputs, files=files, file_count=2)).to_json()

    read = CompletionEvent.from_json(text).inputs
    assert read is not None
    assert (read.file_count, [file.etag for file in read.files]) == (2, ["0x1"])


def test_completion_event_of_64_kb_is_refused_by_writer_and_reader() -> None:
    event = make_event(metrics={f"metric {index}": 1.0 for index in range(6000)})

    with pytest.raises(ValueError, match="at most 65536"):
        event.to_json()
    with pytest.raises(InvalidDocumentError, match="less than 64 KB"):
        CompletionEvent.from_json(" " * MAX_EVENT_BYTES)


@pytest.mark.parametrize("field", ["id", "source", "type", "subject"])
def test_completion_event_whose_envelope_contradicts_its_data_is_refused(field: str) -> None:
    """Routing by the envelope and acting by the data must never be about two different runs."""
    document = make_event().to_document() | {field: "something else"}

    with pytest.raises(InvalidDocumentError, match=f"completion event.{field}: got 'something else'"):
        CompletionEvent.from_document(document)


def test_completion_event_lists_every_mistake() -> None:
    document = json.loads(make_event().to_json())
    document["specversion"] = "0.3"
    document["data"] |= {"attempt": 0, "outcome": "won", "token": "T", "metrics": {"a": "b"}, "extra": 1}
    document["data"]["model"]["is_champion"] = "yes"

    with pytest.raises(InvalidDocumentError) as refused:
        CompletionEvent.from_document(document)

    assert {problem.place.removeprefix("completion event.") for problem in refused.value.problems} == {
        "specversion",
        "data.attempt",
        "data.outcome",
        "data.token",
        "data.metrics.a",
        "data.extra",
        "data.model.is_champion",
    }


def test_completion_event_may_lack_what_a_run_never_had() -> None:
    event = make_event(model=None, inputs=None, outputs=None, databricks_run_id=None, stages=(), metrics={})

    assert CompletionEvent.from_json(event.to_json()) == event


def test_completion_event_needs_an_attempt_and_a_zone() -> None:
    with pytest.raises(ValueError, match="attempt must be at least 1"):
        make_event(attempt=0)
    with pytest.raises(ValueError, match="time must be an aware UTC datetime"):
        make_event(time=NOON.replace(tzinfo=None))


@given(document=json_values)
def test_anything_else_is_no_completion_event(document: object) -> None:
    """Fuzz reaches the reader as data, never as a crash."""
    with pytest.raises(InvalidDocumentError):
        CompletionEvent.from_document(document)


def test_event_of_the_release_before_lacks_what_came_since() -> None:
    """A notebook or a row of that release is read all the same."""
    document = make_event().to_document()
    data = {
        key: value for key, value in make_event().to_data().items() if key not in {"consignment", "replaces", "refused"}
    }

    assert CompletionEvent.from_document(document | {"data": data}) == make_event()


def test_held_work_is_announced_for_a_spent_budget_only() -> None:
    """R77: what is paused or waits for a seat is nobody's news; the subject is what subscribers filter by."""
    facts = {"pipeline": PipelineKey("p"), "environment": "local", "day": NOON.date(), "begun": 1, "time": NOON}

    event = HeldEvent(**facts, reason=HoldReason.BUDGET_SPENT, max_runs_per_day=1)  # type: ignore[arg-type] # by name

    assert (event.subject, event.source) == ("pipelines/p", "/tidegate/local")
    assert event.dataschema == event.to_document()["dataschema"]
    with pytest.raises(ValueError, match="expected a spent budget"):
        HeldEvent(**facts, reason=HoldReason.PAUSED, max_runs_per_day=1)  # type: ignore[arg-type] # likewise
