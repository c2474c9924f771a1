"""Holds the documents between the two sides to their schemas, and their readers to refusing everything else."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from functions.core.announcements import read_topic_event
from functions.core.completion import CompletionEvent, completion_event_id
from functions.core.dead_letters import MAX_DEAD_LETTER_BYTES, read_dead_letter
from functions.core.envelope import MAX_EVENT_BYTES
from functions.core.errors import InvalidDocumentError, Problem
from functions.core.held import HeldEvent
from functions.core.lineage import (
    FileRef,
    InputsRef,
    ModelRef,
    OutputsRef,
    RefusedFile,
    RefusedRef,
    StageResult,
    file_digest,
)
from functions.core.listing import parse_blob_place
from functions.core.manifest import InputManifest, ManifestFile, ManifestPointer, manifest_of, manifest_path
from functions.core.model import (
    BatchId,
    BlobVersion,
    DatabricksRunId,
    IdempotencyToken,
    Outcome,
    PipelineKey,
    RunId,
    RunKind,
    RunState,
    Stage,
    StageOutcome,
)
from functions.core.reading import Reader
from functions.core.reasons import HoldReason
from functions.core.scores import ScoresManifest, WantedScores, verify
from functions.core.stalled import StalledEvent
from functions.core.work import WorkItem, WorkKind
from tests.strategies import completion_events, held_events, manifests, stalled_events, work_items

CONTRACTS = Path(__file__).parents[2] / "docs" / "contracts"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN_ID = RunId("scoring-20260101T120000Z-0123456789ab")
BASE = "https://acct.blob.core.windows.net"
OUTPUT_URL = f"{BASE}/scores/scoring/batch=0123456789abcdef/model_version=3"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


@cache
def validator_of(name: str) -> Draft202012Validator:
    schema = json.loads((CONTRACTS / f"{name}.schema.json").read_text())
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def make_event(**changes: Any) -> CompletionEvent:
    fields: dict[str, Any] = {
        "run_id": RUN_ID,
        "attempt": 2,
        "outcome": Outcome.COMPLETED,
        "reason": None,
        "pipeline": PipelineKey("scoring"),
        "kind": RunKind.SCORING,
        "environment": "local",
        "token": IdempotencyToken("a" * 64),
        "databricks_run_id": DatabricksRunId(7),
        "time": NOON,
        "announced_by": "notebook",
        "model": ModelRef(name="main.tidegate.model", version="3", mlflow_run_id="m", is_champion=True),
        "inputs": InputsRef(
            manifest_url=f"{BASE}/tidegate/manifests/x.json",
            manifest_sha256="b" * 64,
            batch_id=BatchId("0123456789abcdef"),
            file_count=1,
            files=(FileRef(url=f"{BASE}/input/a.parquet", etag="0x8D"),),
        ),
        "outputs": OutputsRef(
            scores_url=OUTPUT_URL,
            manifest_url=f"{OUTPUT_URL}/_manifest.json",
            manifest_sha256="c" * 64,
            rows_in=10,
            rows_scored=9,
            rows_quarantined=1,
        ),
        "stages": (StageResult(name=Stage.PUBLISH, outcome=StageOutcome.RAN, duration_s=1.5),),
        "metrics": {"rmse": 1.25},
        "traceparent": "",
    }
    return CompletionEvent(**(fields | changes))


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


def make_scores(**changes: Any) -> dict[str, Any]:
    event = make_event()
    assert event.inputs is not None
    assert event.model is not None
    document: dict[str, Any] = {
        "schema_version": 1,
        "run_id": RUN_ID,
        "attempt": 2,
        "pipeline": "scoring",
        "batch_id": "0123456789abcdef",
        "created_at": "2026-01-01T12:00:00Z",
        "model": event.model.to_fields(),
        "inputs": event.inputs.to_fields(),
        "columns": [{"name": "score", "type": "double", "nullable": False}],
        "score_column": "score",
        "rows_in": 10,
        "rows_scored": 9,
        "rows_quarantined": 1,
        "null_scores": 0,
        "files": [{"url": f"{OUTPUT_URL}/part-0.parquet", "etag": "0x8D", "size_bytes": 5}],
        "quarantine_files": [],
    }
    return document | changes


def read_scores(**changes: Any) -> ScoresManifest:
    return ScoresManifest.from_bytes(json.dumps(make_scores(**changes)).encode())


WANTED = WantedScores(
    run_id=RUN_ID,
    attempt=2,
    pipeline=PipelineKey("scoring"),
    batch_id=BatchId("0123456789abcdef"),
    manifest_url=f"{BASE}/tidegate/manifests/x.json",
    manifest_sha256="b" * 64,
    file_count=1,
    model_name="main.tidegate.model",
    model_version="3",
    output_url=OUTPUT_URL,
    decided_at=NOON,
)


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


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000 + "]" * 100_000, "\x00"])
def test_text_that_is_no_json_is_refused_by_every_reader(text: str) -> None:
    for read in (
        lambda: CompletionEvent.from_json(text[:60_000]),
        lambda: WorkItem.from_json(text),
        lambda: InputManifest.from_bytes(text.encode()),
        lambda: ScoresManifest.from_bytes(text.encode()),
    ):
        with pytest.raises(InvalidDocumentError):
            read()


@given(manifest=manifests)
def test_manifest_is_what_its_schema_says_and_survives_the_wire(manifest: InputManifest) -> None:
    data = manifest.to_bytes()

    validator_of("manifest").validate(json.loads(data))
    assert InputManifest.from_bytes(data) == manifest
    assert InputManifest.from_bytes(data).sha256() == manifest.sha256()


def test_manifest_does_not_depend_on_the_order_of_arrival() -> None:
    """Two workers that freeze the same files write the same bytes."""
    files = tuple(
        ManifestFile(
            blob=BlobVersion(account="acct", container="input", path=path, etag=etag, size_bytes=1), arrival_id=None
        )
        for path, etag in [("b", "1"), ("a", "2"), ("a", "1")]
    )

    first, second = (
        manifest_of(
            run_id=RUN_ID, pipeline=PipelineKey("scoring"), kind=RunKind.SCORING, created_at=NOON, files=ordered
        )
        for ordered in (files, files[::-1])
    )

    assert first.to_bytes() == second.to_bytes()
    assert [(file.blob.path, file.blob.etag) for file in first.files] == [("a", "1"), ("a", "2"), ("b", "1")]


def test_manifest_of_a_consignment_names_it_and_the_version_before() -> None:
    """A notebook announces both; a batch that is no consignment's keeps the bytes it always had."""
    facts = {
        "run_id": RUN_ID,
        "pipeline": PipelineKey("scoring"),
        "kind": RunKind.SCORING,
        "created_at": NOON,
        "files": (),
    }
    before = RunId("scoring-20260101T110000Z-0123456789ab")

    of_a_folder = manifest_of(**facts, consignment="input/june/", replaces=before)  # type: ignore[arg-type] # as above
    first, plain = manifest_of(**facts, consignment="input/june/"), manifest_of(**facts)  # type: ignore[arg-type] # as above

    documents = [json.loads(manifest.to_bytes()) for manifest in (of_a_folder, first, plain)]
    assert [(one.get("consignment"), one.get("replaces", "absent")) for one in documents] == [
        ("input/june/", before),
        ("input/june/", None),
        (None, "absent"),
    ]
    for manifest, document in zip((of_a_folder, first, plain), documents, strict=True):
        validator_of("manifest").validate(document)
        assert InputManifest.from_bytes(manifest.to_bytes()) == manifest
    for wrong in ({"replaces": before}, {"consignment": "", "replaces": None}, {"consignment": "a/", "replaces": "x"}):
        with pytest.raises(InvalidDocumentError):
            InputManifest.from_bytes(json.dumps(documents[2] | wrong).encode())
    with pytest.raises(ValueError, match="only a version of a consignment replaces a run"):
        replace(plain, replaces=before)


def test_event_of_the_release_before_lacks_what_came_since() -> None:
    """A notebook or a row of that release is read all the same."""
    document = make_event().to_document()
    data = {
        key: value for key, value in make_event().to_data().items() if key not in {"consignment", "replaces", "refused"}
    }

    assert CompletionEvent.from_document(document | {"data": data}) == make_event()


def test_manifest_with_mistakes_lists_them() -> None:
    manifest = manifest_of(
        run_id=RUN_ID,
        pipeline=PipelineKey("scoring"),
        kind=RunKind.SCORING,
        created_at=NOON,
        files=(
            ManifestFile(
                blob=BlobVersion(account="acct", container="input", path="a", etag="1", size_bytes=1), arrival_id=None
            ),
        ),
    )
    document = json.loads(manifest.to_bytes())
    document["batch_id"] = "short"
    document["files"][0]["url"] = f"{BASE}/input/b"

    with pytest.raises(InvalidDocumentError) as refused:
        InputManifest.from_bytes(json.dumps(document).encode())

    assert [problem.place for problem in refused.value.problems] == ["manifest.batch_id", "manifest.files[0].url"]
    with pytest.raises(InvalidDocumentError, match="expected an object"):
        InputManifest.from_bytes(b"[]")


def test_manifest_lies_under_its_pipeline() -> None:
    assert manifest_path(PipelineKey("p"), RUN_ID) == f"manifests/p/{RUN_ID}.json"


@pytest.mark.parametrize(
    ("url", "sha256"),
    [
        (f"{BASE}/tidegate/x.json?sig=secret", "a" * 64),
        ("http://acct.blob.core.windows.net/tidegate/x", "a" * 64),
        (f"{BASE}/tidegate/x.json", "A" * 64),
    ],
)
def test_pointer_is_a_plain_blob_url_with_a_hash(url: str, sha256: str) -> None:
    """A shared access signature can never travel in a parameter."""
    with pytest.raises(ValueError, match="expected an https blob URL"):
        ManifestPointer(url=url, sha256=sha256)


@given(item=work_items)
def test_work_survives_the_queue(item: WorkItem) -> None:
    assert WorkItem.from_json(item.to_json()) == item


@given(document=json_values)
def test_anything_else_is_no_work(document: object) -> None:
    with pytest.raises(InvalidDocumentError):
        WorkItem.from_json(json.dumps(document))


def test_work_names_a_run_exactly_if_it_advances_one() -> None:
    text = WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=PipelineKey("p")).to_json()

    with pytest.raises(InvalidDocumentError, match="a run id for advance_run"):
        WorkItem.from_json(text.replace("close_batch", "advance_run"))
    with pytest.raises(ValueError, match="do not go together"):
        WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=PipelineKey("p"), run_id=RUN_ID)


def test_scores_that_add_up_are_proof() -> None:
    validator_of("scores-manifest").validate(make_scores())

    assert verify(read_scores(), WANTED) == []
    assert verify(read_scores(attempt=1), WANTED) == []  # an earlier attempt had published before it died


def test_every_discrepancy_of_scores_is_listed() -> None:
    """A run is never called a success because one number fits."""
    scores = read_scores(
        run_id="other-20260101T120000Z-0123456789ab",
        created_at="2026-01-01T11:59:59Z",
        rows_in=11,
        null_scores=2,
        score_column="missing",
        files=[{"url": f"{BASE}/scores/elsewhere/part-0.parquet", "etag": "0x8D", "size_bytes": 5}],
        model=make_scores()["model"] | {"version": "2"},
    )

    assert verify(scores, WANTED) == [
        "model.version is '2', expected '3'",
        f"run_id is 'other-20260101T120000Z-0123456789ab', expected '{RUN_ID}'",
        "rows do not add up: 11 in, but 9 scored and 1 quarantined",
        "2 scores are null or NaN, expected none",
        "score_column 'missing' is not among the declared columns",
        f"file '{BASE}/scores/elsewhere/part-0.parquet' is outside '{OUTPUT_URL}'",
    ]


def test_scores_of_a_later_attempt_are_no_proof() -> None:
    assert verify(read_scores(attempt=3), WANTED) == ["attempt is 3, expected at most 2"]


def test_scores_that_another_run_replaced_since_stand_for_ours() -> None:
    """R43: same batch, same model, same place; two runs at once must not make each other fail."""
    inputs = make_scores()["inputs"] | {"manifest_sha256": "f" * 64}
    theirs = {"run_id": "other-20260101T120000Z-0123456789ab", "inputs": inputs, "attempt": 9}

    assert verify(read_scores(**theirs), WANTED) == []
    assert verify(read_scores(**theirs, rows_in=11), WANTED) != []
    assert len(verify(read_scores(**theirs, created_at="2026-01-01T11:00:00Z"), WANTED)) == 2


def test_scores_manifest_with_mistakes_lists_them() -> None:
    with pytest.raises(InvalidDocumentError) as refused:
        read_scores(rows_in=-1, columns=[], files=[{"url": "x", "etag": "e", "size_bytes": 0}])

    assert [problem.place for problem in refused.value.problems] == [
        "scores manifest.columns",
        "scores manifest.rows_in",
        "scores manifest.files[0].url",
        "scores manifest.files[0].size_bytes",
    ]


def test_scores_say_what_the_event_says_of_them() -> None:
    scores = read_scores()

    assert scores.outputs(OUTPUT_URL) == OutputsRef(
        scores_url=OUTPUT_URL,
        manifest_url=f"{OUTPUT_URL}/_manifest.json",
        manifest_sha256=scores.sha256,
        rows_in=10,
        rows_scored=9,
        rows_quarantined=1,
    )


def test_work_names_a_backfill_exactly_if_it_goes_on_with_one() -> None:
    text = WorkItem(kind=WorkKind.BACKFILL, pipeline=PipelineKey("p"), backfill_id="0" * 16).to_json()

    with pytest.raises(InvalidDocumentError, match="a backfill's id for backfill"):
        WorkItem.from_json(text.replace('"kind": "backfill"', '"kind": "close_batch"'))
    for kind, backfill_id in ((WorkKind.CLOSE_BATCH, "0" * 16), (WorkKind.BACKFILL, "")):
        with pytest.raises(ValueError, match="do not go together"):
            WorkItem(kind=kind, pipeline=PipelineKey("p"), backfill_id=backfill_id)


def test_work_names_pages_only_if_it_goes_on_with_a_backfill() -> None:
    item = WorkItem(kind=WorkKind.BACKFILL, pipeline=PipelineKey("p"), backfill_id="0" * 16, pages=3)
    other = WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=PipelineKey("p")).to_json()

    assert WorkItem.from_json(item.to_json()) == item
    with pytest.raises(InvalidDocumentError, match="pages for backfill"):
        WorkItem.from_json(other.replace('"tries"', '"pages": 3, "tries"'))
    with pytest.raises(ValueError, match="do not go together"):
        WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=PipelineKey("p"), pages=3)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[" + b" " * MAX_DEAD_LETTER_BYTES, "at most 4194304"),
        (b"[{]", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"\xff", "JSON"),
        (b"[]", "at least 1"),
        (b"[1]", "an object"),
        (b"[" + b"{}," * 5000 + b"{}]", "at most 5000"),
        (b'{"queue": "nobody", "message_id": "m", "reason": "r", "message": "x"}', "one of arrivals"),
    ],
    ids=lambda value: value[:20].decode(errors="replace") if isinstance(value, bytes) else value,
)
def test_what_is_no_dead_letter_is_refused_with_what_is_wrong(content: bytes, problem: str) -> None:
    """R74: whatever lies in the container, of whatever size, nothing of it is half replayed."""
    with pytest.raises(InvalidDocumentError, match=problem):
        read_dead_letter(content)


def test_a_key_with_half_a_character_is_no_key() -> None:
    problems: list[Problem] = []

    keys = [key for key, _ in Reader({"a": 1, "\ud800": 2}, "document", problems).children()]

    assert keys == ["a"]
    assert [problem.expected for problem in problems] == ["Unicode"]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://acct.blob.core.windows.net/input/a%20b/%C3%A9%23.x", ("acct", "input", "a b/é#.x")),
        ("https://acct.blob.core.windows.net/input/a%FF", None),  # no UTF-8
        ("https://acct.blob.core.windows.net/input/a?sig=x", None),
        ("http://acct.blob.core.windows.net/input/a", None),
    ],
)
def test_a_blob_is_asked_for_by_the_url_that_people_see(url: str, place: tuple[str, str, str] | None) -> None:
    """R73."""
    assert parse_blob_place(url) == place


def test_held_work_is_announced_for_a_spent_budget_only() -> None:
    """R77: what is paused or waits for a seat is nobody's news; the subject is what subscribers filter by."""
    facts = {"pipeline": PipelineKey("p"), "environment": "local", "day": NOON.date(), "begun": 1, "time": NOON}

    event = HeldEvent(**facts, reason=HoldReason.BUDGET_SPENT, max_runs_per_day=1)  # type: ignore[arg-type] # by name

    assert (event.subject, event.source) == ("pipelines/p", "/tidegate/local")
    assert event.dataschema == event.to_document()["dataschema"]
    with pytest.raises(ValueError, match="expected a spent budget"):
        HeldEvent(**facts, reason=HoldReason.PAUSED, max_runs_per_day=1)  # type: ignore[arg-type] # likewise
