"""Holds the published contracts of events to the events: a schema per type, and a page that lists every one."""

import json
import re
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from functions.core.announcements import Announcement, read_topic_event
from functions.core.model import ModelSignal, Outcome, RunKind, SignalType
from functions.core.signals import signal_to_document
from tests.strategies import completion_events, held_events, model_signals, stalled_events
from tests.support.event_contracts import PAGE, SCHEMAS, event_examples, event_page, event_schemas

WRITE = "write it again: .venv/bin/python -m tests.support.event_contracts"
EXAMPLES = event_examples()


@cache
def validator_of(event_type: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{event_type}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def test_each_type_has_a_schema_of_its_own_and_no_other_file_is_there() -> None:
    """R53, R56: one file per CloudEvents type, made of the shared ones."""
    types = {f"tidegate.{kind.value}.{end}" for kind in RunKind for end in [*(one.value for one in Outcome), "stalled"]}
    types |= {"tidegate.pipeline.held", *(signal.value for signal in SignalType)}

    found = {path.name: json.loads(path.read_text()) for path in SCHEMAS.iterdir()}

    assert set(found) == {f"{event_type}.schema.json" for event_type in types}
    assert found == event_schemas(), WRITE
    ids = [str(schema["$id"]) for schema in found.values()]
    assert sorted(ids) == sorted(f"urn:tidegate:schema:event:{event_type}:1" for event_type in types)


def test_the_page_lists_every_type_with_an_example_that_can_be_read() -> None:
    text = PAGE.read_text()
    examples = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)]

    assert text == event_page(), WRITE
    assert [example["type"] for example in examples] == list(EXAMPLES)
    for example in examples:
        validator_of(example["type"]).validate(example)
        read_topic_event(json.dumps(example))


@given(event=st.one_of(completion_events(), stalled_events, held_events))
def test_whatever_we_announce_is_what_its_types_schema_says(event: Announcement) -> None:
    assert [*validator_of(event.type).iter_errors(json.loads(event.to_json()))] == []


@given(signal=model_signals())
def test_whatever_we_read_as_a_signal_is_what_its_types_schema_says(signal: ModelSignal) -> None:
    assert [*validator_of(signal.type.value).iter_errors(signal_to_document(signal))] == []


@pytest.mark.parametrize("event_type", EXAMPLES)
def test_a_schema_fits_no_other_type(event_type: str) -> None:
    """A subscriber that validates by type never takes one event for another."""
    others: dict[str, Any] = {other: document for other, document in EXAMPLES.items() if other != event_type}

    assert [other for other, document in others.items() if validator_of(event_type).is_valid(document)] == []
    for other, document in others.items():
        assert not validator_of(event_type).is_valid({**document, "type": event_type}) or other.split(".")[1] == "model"
