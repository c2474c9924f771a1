"""Holds frozen runs to what was decided, whenever they are frozen."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from functions.core.decided import (
    Skip,
)
from functions.core.decisions import decide
from functions.core.errors import ParametersTooLargeError
from functions.core.freezing import Frozen, freeze, parameters_of, token_of, wanted_scores_of
from functions.core.model import (
    IdempotencyToken,
    RunRequested,
    SlotDue,
    Stage,
)
from functions.core.parameters import MAX_PARAMETERS_BYTES, size_of
from functions.core.reasons import SkipReason
from tests.support.decisions import (
    HERE,
    PIPELINES,
    SCORE,
    T0,
    close,
    frozen,
    make_arrival,
    make_blob,
    make_request,
    make_slot,
    started,
)

ROOT = Path(__file__).parents[2]


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
