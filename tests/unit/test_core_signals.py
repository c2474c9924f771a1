"""Holds signals about a model to their schema, and the rules that listen to them to their thresholds and cooldowns."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from functions.core.announcements import read_topic_event
from functions.core.decided import SignalState, Situation, Skip, StartRun
from functions.core.decisions import decide
from functions.core.errors import InvalidConfigurationError, InvalidDocumentError
from functions.core.explain import explain, explanation_lines
from functions.core.ledger import CauseKind
from functions.core.model import JobKey, ModelSignal, RunId, SignalType
from functions.core.pipelines import Pipelines
from functions.core.pipelines_toml import parse_pipelines
from functions.core.reasons import SkipReason
from functions.core.signal_records import SignalMark
from functions.core.signals import signal_from_document, signal_to_document
from functions.core.tokens import run_id_of_signal
from tests.strategies import model_signals

SCHEMA = Path(__file__).parents[2] / "docs" / "contracts" / "model-signal.schema.json"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SITUATION = Situation(environment="local", account="acct")
TRAINING = """
schema = 1
[pipelines.train]
kind = "training"
job = "training"
model = "main.tidegate.m"
training_data = { container = "input", prefix = "history/" }
"""
DRIFT = """
[[pipelines.train.signals]]
name = "drift"
event_type = "tidegate.model.drift_detected.v1"
cooldown_hours = 24
threshold = { metric = "psi", at_least = 0.2 }
"""
DECAY = """
[[pipelines.train.signals]]
name = "decay"
event_type = "tidegate.model.decay_detected.v1"
model = "main.tidegate.m"
cooldown_hours = 0
threshold = { metric = "auc", at_most = 0.7 }
"""


def make_pipelines(rules: str = DRIFT + DECAY) -> Pipelines:
    return parse_pipelines((TRAINING + rules).encode(), file="t", known_jobs=[JobKey("training")])


def make_signal(**changes: Any) -> ModelSignal:
    fields: dict[str, Any] = {
        "event_id": "e-1",
        "source": "/monitors/weekly",
        "type": SignalType.DRIFT_DETECTED,
        "time": NOON,
        "environment": "local",
        "model_name": "main.tidegate.m",
        "model_version": "7",
        "window_start": NOON - timedelta(days=7),
        "window_end": NOON,
        "metrics": {"psi": 0.3},
    }
    return ModelSignal(**(fields | changes))


def in_state(mark: SignalMark | None, now: datetime = NOON) -> Situation:
    return replace(SITUATION, signal=SignalState(now=now, mark=mark))


@given(signal=model_signals())
def test_signal_is_what_its_schema_says_and_survives_the_wire(signal: ModelSignal) -> None:
    document = signal_to_document(signal)

    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(document)
    assert signal_from_document(document) == signal
    assert read_topic_event(json.dumps(document)) == signal


def test_every_mistake_of_a_signal_is_named() -> None:
    document: Any = signal_to_document(make_signal())
    document |= {"subject": "models/other.model.x", "type": "tidegate.model.other.v1"}
    document["data"] |= {"environment": "Local", "metrics": {"a b": "c"}, "window": {"start": "now"}, "extra": 1}

    with pytest.raises(InvalidDocumentError) as refused:
        signal_from_document(document)

    assert {problem.place.removeprefix("model signal.") for problem in refused.value.problems} == {
        "data.extra",
        "data.window.end",
        "data.window.start",
        "data.environment",
        "data.metrics.a b",
        "data.metrics.a b (name)",
        "type",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "models/other.model.x"},
        {"data": {**signal_to_document(make_signal())["data"], "metrics": {str(n): 1 for n in range(101)}}},  # type: ignore[dict-item] # a mapping
        {"data": {**signal_to_document(make_signal(window_start=NOON + timedelta(1)))["data"]}},  # type: ignore[dict-item] # likewise
        {"data": {**signal_to_document(make_signal(window_end=NOON + timedelta(93)))["data"]}},  # type: ignore[dict-item] # likewise
    ],
)
def test_signal_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidDocumentError):
        signal_from_document(signal_to_document(make_signal()) | changes)


def test_a_signal_that_names_no_content_type_is_the_json_that_it_is() -> None:
    """As azure-eventgrid sends an object; one that says something else is refused."""
    signal = make_signal()
    document = signal_to_document(signal)
    del document["datacontenttype"]

    assert signal_from_document(document) == signal
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(document)
    with pytest.raises(InvalidDocumentError, match="datacontenttype: got 'text/plain', expected 'application/json'"):
        signal_from_document(document | {"datacontenttype": "text/plain"})


def test_signal_of_the_last_days_of_the_calendar_is_read() -> None:
    last = datetime(9999, 12, 31, 23, tzinfo=UTC)
    signal = make_signal(time=last, window_end=last)

    assert signal_from_document(signal_to_document(signal)) == signal


@given(document=st.recursive(st.none() | st.text(max_size=5), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_anything_else_is_no_signal(document: object) -> None:
    with pytest.raises(InvalidDocumentError):
        signal_from_document(document)


def test_a_signal_asks_for_the_retraining_of_its_window() -> None:
    """R51: through the same decision as a slot or a request."""
    decision = decide(make_signal(), make_pipelines(), in_state(None))

    assert isinstance(decision, StartRun)
    assert (decision.cause.kind, decision.cause.name, decision.cause.at) == (CauseKind.SIGNAL, "drift", NOON)
    assert decision.run_id.startswith("train-20260301T120000Z-")


@given(signal=model_signals())
def test_a_run_is_named_by_its_window_not_by_the_event(signal: ModelSignal) -> None:
    """Two monitors, or one that repeats itself, are about the same window: there is one run."""
    pipeline = make_pipelines().pipelines[0].key
    other = replace(signal, event_id="another", source="another", metrics={}, time=NOON, reason="said again")

    run_id = run_id_of_signal(pipeline, "drift", signal)

    assert run_id_of_signal(pipeline, "drift", other) == run_id
    assert run_id_of_signal(pipeline, "decay", signal) != run_id
    moved = replace(signal, window_start=signal.window_start - timedelta(microseconds=1))
    assert run_id_of_signal(pipeline, "drift", moved) != run_id


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"environment": "prod"}, SkipReason.FOREIGN_ENVIRONMENT, "'prod'"),
        ({"model_name": "main.tidegate.other"}, SkipReason.NO_SIGNAL_RULE, "main.tidegate.other"),
        ({"metrics": {"psi": 0.19}}, SkipReason.BELOW_THRESHOLD, "train.drift: psi is 0.19, below 0.2"),
        ({"metrics": {}}, SkipReason.BELOW_THRESHOLD, "train.drift: it has no metric 'psi'"),
        (
            {"type": SignalType.DECAY_DETECTED, "metrics": {"auc": 0.71}},
            SkipReason.BELOW_THRESHOLD,
            "train.decay: auc is 0.71, above 0.7",
        ),
    ],
)
def test_a_signal_that_nobody_takes_says_why(changes: dict[str, Any], reason: SkipReason, detail: str) -> None:
    decision = decide(make_signal(**changes), make_pipelines(), in_state(None))

    assert isinstance(decision, Skip)
    assert (decision.reason, detail in decision.detail) == (reason, True)


def test_a_threshold_that_is_met_exactly_is_met() -> None:
    for changes in ({"metrics": {"psi": 0.2}}, {"type": SignalType.DECAY_DETECTED, "metrics": {"auc": 0.7}}):
        assert isinstance(decide(make_signal(**changes), make_pipelines(), in_state(None)), StartRun)


def test_a_rule_without_a_threshold_takes_any_signal_of_its_type_and_model() -> None:
    any_drift = DRIFT.replace('threshold = { metric = "psi", at_least = 0.2 }', "")

    assert isinstance(decide(make_signal(metrics={}), make_pipelines(any_drift), in_state(None)), StartRun)


def test_the_first_rule_whose_threshold_is_reached_takes_the_signal() -> None:
    """Rule order is meaning, as with routes."""
    other = DRIFT.replace('"drift"', '"mean_shift"').replace('"psi"', '"shift"')

    decision = decide(make_signal(metrics={"shift": 3.0}), make_pipelines(DRIFT + other), in_state(None))

    assert isinstance(decision, StartRun)
    assert decision.cause.name == "mean_shift"


@pytest.mark.parametrize(
    ("since", "is_started"),
    [
        (timedelta(hours=23, minutes=59), False),
        (timedelta(hours=24), True),
        (-timedelta(hours=1), False),  # the clock went back an hour: the cooldown still holds
        (-timedelta(days=300), True),  # the mark is a wrong clock's: it must not silence the rule for a year
    ],
)
def test_the_cooldown_counts_from_the_rules_last_run(since: timedelta, *, is_started: bool) -> None:
    mark = SignalMark(run_id=RunId("train-20260101T000000Z-0123456789ab"), at=NOON - since)

    decision = decide(make_signal(), make_pipelines(), in_state(mark))

    assert isinstance(decision, StartRun) == is_started
    assert is_started or (isinstance(decision, Skip) and decision.reason is SkipReason.COOLDOWN)


def test_the_same_window_is_not_refused_by_the_cooldown_that_it_began() -> None:
    """A redelivery after a crash goes on with its own run."""
    pipelines = make_pipelines()
    run_id = run_id_of_signal(pipelines.pipelines[0].key, "drift", make_signal())

    decision = decide(make_signal(), pipelines, in_state(SignalMark(run_id=run_id, at=NOON)))

    assert isinstance(decision, StartRun)


def test_a_claim_that_is_given_up_cools_nothing_and_leaves_the_one_before() -> None:
    first = SignalMark(run_id=RunId("a"), at=NOON)
    second = first.followed_by(RunId("b"), NOON + timedelta(days=2))

    assert second.given_up() == first
    assert not first.given_up().is_cooling(NOON, 24)


def test_an_explanation_says_what_only_the_ledger_knows() -> None:
    signal = make_signal()

    document = explain(signal, decide(signal, make_pipelines(), SITUATION), SITUATION)

    lines = "\n".join(explanation_lines(document))
    assert "kind: tidegate.model.drift_detected.v1" in lines
    assert "why: asked for by signal drift" in lines
    assert "unless: drift has started another run within the last 24 hours" in lines


@pytest.mark.parametrize(
    ("rules", "mistakes"),
    [
        (
            DRIFT.replace("24", "-1").replace("drift_detected", "rain_detected"),
            [
                (
                    "signals[0].event_type: got 'tidegate.model.rain_detected.v1', expected one of "
                    "tidegate.model.drift_detected.v1, tidegate.model.decay_detected.v1"
                ),
                "signals[0].cooldown_hours: got -1, expected a whole number from 0 to 8784",
            ],
        ),
        (
            DRIFT.replace(", at_least = 0.2", ""),
            ["signals[0].threshold: got an object of 1 key(s), expected exactly one of at_least and at_most"],
        ),
        (
            DRIFT.replace("at_least = 0.2", "at_least = nan"),
            ["signals[0].threshold.at_least: got nan, expected a finite number"],
        ),
        (
            DRIFT + DRIFT.replace("0.2", "0.9"),
            ["signals[1].name: got 'drift', expected a name that no other of the signals has"],
        ),
        (
            DRIFT.replace('threshold = { metric = "psi", at_least = 0.2 }', "") + DRIFT.replace('"drift"', '"later"'),
            [
                (
                    "signals[1]: got signal 'later', which pipelines.train.signals[0] ('drift') shadows, expected "
                    "a signal that reaches it: give the earlier one another threshold, or put it last"
                )
            ],
        ),
        (
            "[[pipelines.train.signals]]\nmodel = 3",
            [
                "signals[0].name: got nothing, expected a value",
                "signals[0].event_type: got nothing, expected a value",
                "signals[0].cooldown_hours: got nothing, expected a value",
                "signals[0].model: got 3, expected catalog.schema.model",
            ],
        ),
    ],
)
def test_mistake_in_a_signal_is_named_with_place_value_and_expectation(rules: str, mistakes: list[str]) -> None:
    with pytest.raises(InvalidConfigurationError) as refused:
        make_pipelines(rules)

    assert [str(problem).removeprefix("t: pipelines.train.") for problem in refused.value.problems] == mistakes


def test_a_scoring_pipeline_listens_to_no_signal() -> None:
    scoring = (
        TRAINING.replace("train", "score")
        .replace("scoreing", "training")
        .replace('kind = "training"', 'kind = "scoring"')
    )
    scoring = scoring.replace(
        'training_data = { container = "input", prefix = "history/" }', 'output = { container = "out" }'
    )

    with pytest.raises(InvalidConfigurationError, match="no signals: they ask for training"):
        parse_pipelines((scoring + DRIFT.replace("train", "score")).encode(), file="t", known_jobs=[JobKey("training")])
