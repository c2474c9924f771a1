"""Holds the reader of run requests to listing every bad field and letting no trick through."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.errors import InvalidRequestError
from functions.core.model import JobKey, RunRequested, Stage
from functions.core.pipelines_toml import parse_pipelines
from functions.core.requests import MAX_BODY_BYTES, parse_run_request

T0 = datetime(2026, 1, 1, tzinfo=UTC)
BASE = "https://acct.blob.core.windows.net"
PIPELINES = parse_pipelines(
    b"""
schema = 1
[pipelines.train]
kind = "training"
job = "training"
model = "main.tidegate.m"
callers_may_set = ["seed"]
[pipelines.train.training_data]
container = "input"
prefix = "history/"
[pipelines.score]
kind = "scoring"
job = "scoring"
model = "main.tidegate.m"
[[pipelines.score.routes]]
name = "new"
container = "input"
prefix = "new/"
[pipelines.score.output]
container = "scores"
""",
    file="pipelines.toml",
    known_jobs=[JobKey("training"), JobKey("scoring")],
)


def parse(body: Any, key: str = "key-1") -> RunRequested:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_run_request(data, idempotency_key=key, pipelines=PIPELINES, account="acct", requested_at=T0)


def mistakes_of(body: Any, key: str = "key-1") -> list[str]:
    with pytest.raises(InvalidRequestError) as refused:
        parse(body, key)
    return [str(problem) for problem in refused.value.problems]


def test_smallest_request_asks_for_the_defaults() -> None:
    assert parse({"pipeline": "train"}) == RunRequested(
        pipeline=PIPELINES.pipelines[0].key, request_id="key-1", requested_at=T0
    )


def test_full_request_is_understood() -> None:
    request = parse(
        {
            "pipeline": "train",
            "stages": {"publish": False},
            "parameters": {"seed": "7"},
            "files": [f"{BASE}/input/history/a%20b%25.parquet"],
        }
    )

    assert request.stages == {Stage.PUBLISH: False}
    assert request.parameters == {"seed": "7"}
    assert request.files == (("input", "history/a b%.parquet"),)


def test_every_bad_field_is_listed() -> None:
    """R06."""
    body = {
        "pipeline": "train",
        "stages": {"flying": True, "publish": "yes"},
        "parameters": {"seed": "x", "wheel": "evil.whl"},
        "files": ["x", 3],
        "job": 17,
    }

    assert mistakes_of(body, key="a b") == [
        "job: got an unknown key, expected one of pipeline, stages, parameters, files",
        "Idempotency-Key: got 'a b', expected 1 to 128 letters, digits, '_', '.', ':' or '-'",
        "stages.flying: got an unknown stage, expected one of feature_engineering, training, evaluation, publish",
        "stages.publish: got 'yes', expected true or false",
        "parameters.seed: got 'x', expected a whole number of at most nine digits",
        "parameters.wheel: got a parameter that callers may not set, expected seed",
        f"files[0]: got text, expected {BASE}/<container>/<path>, without a query",
        f"files[1]: got 3, expected {BASE}/<container>/<path>, without a query",
    ]


@pytest.mark.parametrize(
    ("body", "mistake"),
    [
        (b"", "body: got 0 bytes, expected a JSON object without repeated keys"),
        (b"[" * 60_000, "body: got 60000 bytes, expected a JSON object without repeated keys"),
        (
            b'{"pipeline": "train", "pipeline": "score"}',
            "body: got 42 bytes, expected a JSON object without repeated keys",
        ),
        (b" " * (MAX_BODY_BYTES + 1), "body: got 65537 bytes, expected at most 65536 bytes"),
        ([], "body: got a list of 0, expected a JSON object"),
        ({}, "pipeline: got nothing, expected a value"),
        ({"pipeline": 3}, "pipeline: got 3, expected one of score, train"),
        ({"pipeline": "gone", "stages": {"publish": 1}}, "stages.publish: got 1, expected true or false"),
        (
            {"pipeline": "gone", "parameters": {"seed": "1"}, "files": []},
            "pipeline: got 'gone', expected one of score, train",
        ),
        ({"pipeline": "train", "stages": []}, "stages: got a list of 0, expected an object"),
        ({"pipeline": "train", "parameters": 3}, "parameters: got 3, expected an object"),
        (
            {"pipeline": "score", "parameters": {"max_quarantined_fraction": "1"}},
            "parameters.max_quarantined_fraction: got a parameter that callers may not set, expected no parameter",
        ),
        (
            {"pipeline": "train", "parameters": {"seed": 1}},
            "parameters.seed: got int, expected a string with a whole number of at most nine digits",
        ),
        ({"pipeline": "train", "files": "x"}, "files: got 'x', expected a list"),
        (
            {"pipeline": "train", "files": ["x"] * 101},
            "files: got a list of 101, expected a list of at least 0, at most 100",
        ),
        (
            {"pipeline": "train", "files": [f"{BASE}/input/new/a"]},
            f"files[0]: got '{BASE}/input/new/a', expected a file where train reads: input/history/",
        ),
        (
            {"pipeline": "train", "files": [f"{BASE}/input/history/a", f"{BASE}/input/history/%61"]},
            f"files[1]: got '{BASE}/input/history/%61', expected each file once",
        ),
    ],
)
def test_bad_body_is_refused(body: Any, mistake: str) -> None:
    assert mistake in mistakes_of(body)


@pytest.mark.parametrize(
    "url",
    [
        f"{BASE}/input/history/../secrets",
        f"{BASE}/input/history/%2e%2e/secrets",
        f"{BASE}/input/history/%2E%2E%2Fsecrets",
        f"{BASE}/input/history/%252e%252e/secrets",
        f"{BASE}/input/history/a%252f%252e%252e%252fb",
        f"{BASE}/input/history/a%255cb",
        f"{BASE}/input/history/./a",
        f"{BASE}/input/history//a",
        f"{BASE}/input/history/a%00.parquet",
        f"{BASE}/input/history/a\x00.parquet",
        f"{BASE}/input/history/a%2500",
        f"{BASE}/input/history/a%E2%80%AEteuqrap.exe",
        f"{BASE}/input/history/a\u202eteuqrap.exe",
        f"{BASE}/input/history/a%0d%0aX: y",
        f"{BASE}/input/history/a\\b",
        f"{BASE}/input/history/%ff",
        f"{BASE}/input/history/a?sv=2024&sig=secret",
        f"{BASE}/input/history/a#fragment",
        f"{BASE}:443/input/history/a",
        "https://user@acct.blob.core.windows.net/input/history/a",
        "https://other.blob.core.windows.net/input/history/a",
        "https://acct.blob.core.windows.net.evil.com/input/history/a",
        "http://acct.blob.core.windows.net/input/history/a",
        "https://169.254.169.254/metadata",
        "abfss://input@acct.dfs.core.windows.net/history/a",
        "file:///etc/passwd",
        f"{BASE}/input",
        f"{BASE}/In/history/a",
        f"{BASE}/input/history/" + "a" * 5000,
    ],
)
def test_trick_in_a_file_is_refused_without_repeating_it(url: str) -> None:
    """A URL may carry a signature, so the refusal names the place only."""
    (mistake,) = mistakes_of({"pipeline": "train", "files": [url]})

    assert mistake.startswith("files[0]: got ")
    assert "secret" not in mistake


@given(body=st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["pipeline", "stages", "parameters", "files", "seed", "publish"]), inner),
    max_leaves=8,
))  # fmt: skip
def test_any_body_is_a_request_or_refused(body: Any) -> None:
    """Fuzz: a 400 with reasons, never a 500."""
    assert mistakes_of(body) != []


@given(data=st.binary(max_size=60))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        parse(data)
