"""Tests the sample subscriber's helper and its answers to Event Grid."""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samples.subscriber.dedupe import SqliteSeenEvents, key_of
from samples.subscriber.webhook import Reply, answer

NOW = 1_000_000.0
EVENT = {"specversion": "1.0", "source": "/tidegate/prod", "id": "r.1.completed", "data": {}}


class Received:
    """Takes events, and says no when it is told to."""

    def __init__(self, *, is_taking: bool = True) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.is_taking = is_taking

    def __call__(self, event: Mapping[str, Any]) -> bool:
        self.events.append(event)
        return self.is_taking


def ask(method: str, body: object = b"", **headers: str) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    by_name = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer(method, by_name, content, receive=Received())


def test_the_handshake_of_cloud_events_is_a_header_not_a_status() -> None:
    reply = ask("OPTIONS", WebHook_Request_Origin="eventgrid.azure.net", WebHook_Request_Rate="120")

    assert (reply.status, dict(reply.headers)) == (
        200,
        {"WebHook-Allowed-Origin": "eventgrid.azure.net", "WebHook-Allowed-Rate": "*"},
    )


def test_a_rate_is_allowed_only_to_who_asks_for_one() -> None:
    limited = answer(
        "OPTIONS",
        {"webhook-request-origin": "EventGrid.Azure.net", "webhook-request-rate": "1000"},
        b"",
        receive=Received(),
        allowed_rate=60,
    )
    silent = ask("OPTIONS", WebHook_Request_Origin="eventgrid.azure.net")

    assert limited.headers["WebHook-Allowed-Rate"] == "60"
    assert "WebHook-Allowed-Rate" not in silent.headers


@pytest.mark.parametrize("origin", ["evil.example", "", "eventgrid.azure.net.evil.example"])
def test_another_origin_gets_no_consent(origin: str) -> None:
    reply = ask("OPTIONS", WebHook_Request_Origin=origin)

    assert (reply.status, "WebHook-Allowed-Origin" in reply.headers) == (403, False)


def test_the_handshake_of_the_event_grid_schema_returns_the_code() -> None:
    event = {"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "c-1"}}

    reply = ask("POST", [event], aeg_event_type="SubscriptionValidation")

    assert (reply.status, json.loads(reply.body)) == (200, {"validationResponse": "c-1"})
    assert ask("POST", [{"data": {}}], aeg_event_type="SubscriptionValidation").status == 400
    assert ask("POST", [], aeg_event_type="SubscriptionValidation").status == 400


@pytest.mark.parametrize("body", [EVENT, [EVENT, {**EVENT, "id": "other"}], []])
def test_one_event_or_a_list_of_them_is_taken(body: Any) -> None:
    received = Received()

    reply = answer("POST", {"aeg-event-type": "Notification"}, json.dumps(body).encode(), receive=received)

    assert reply.status == 200
    assert received.events == (body if isinstance(body, list) else [body])


def test_a_busy_event_has_the_batch_delivered_again_and_the_others_are_still_taken() -> None:
    received = Received(is_taking=False)

    reply = answer("POST", {}, json.dumps([EVENT, EVENT]).encode(), receive=received)

    assert (reply.status, reply.headers["Retry-After"], len(received.events)) == (503, "30", 2)


@given(body=st.binary(max_size=50) | st.text(max_size=20).map(str.encode))
def test_whatever_comes_is_answered(body: bytes) -> None:
    """Nothing that is sent makes Event Grid try for a day what can never be read."""
    assert answer("POST", {}, body, receive=Received()).status in {200, 400}


@pytest.mark.parametrize("body", [b"[" * 100_000, b"x" * (1024 * 1024 + 1), b"[1]", b'"text"'])
def test_what_is_no_event_is_refused_for_good(body: bytes) -> None:
    assert answer("POST", {}, body, receive=Received()).status == 400


def test_other_methods_are_refused_and_an_unsubscription_is_taken() -> None:
    assert (ask("GET").status, ask("GET").headers["Allow"]) == (405, "POST, OPTIONS")
    assert ask("POST", {}, aeg_event_type="Unsubscribe").status == 200


def test_an_events_identity_is_its_source_and_id_in_either_schema() -> None:
    assert key_of(EVENT) == "/tidegate/prod r.1.completed"
    assert key_of({"topic": "/subscriptions/x", "id": "1"}) == "/subscriptions/x 1"
    for nameless in ({"id": "1"}, {"specversion": "1.0", "source": "/a"}, {"topic": "/a", "id": 1}):
        with pytest.raises(ValueError, match="an event needs"):
            key_of(nameless)


def test_an_effect_in_the_same_database_is_there_exactly_if_the_event_is_marked(tmp_path: Path) -> None:
    path = tmp_path / "seen.db"
    store = SqliteSeenEvents(path)
    with sqlite3.connect(path) as setup:
        setup.execute("CREATE TABLE effects (id TEXT)")

    def handle(*, is_failing: bool) -> bool:
        with store.transaction("e-1", now=NOW) as connection:
            if connection is None:
                return False
            connection.execute("INSERT INTO effects VALUES ('e-1')")
            if is_failing:
                raise KeyboardInterrupt
            return True

    with pytest.raises(KeyboardInterrupt):
        handle(is_failing=True)
    outcomes = [handle(is_failing=False), handle(is_failing=False)]

    assert outcomes == [True, False]
    with sqlite3.connect(path) as reading:
        assert reading.execute("SELECT COUNT(*) FROM effects").fetchone() == (1,)
    reading.close()
    setup.close()


def test_the_file_keeps_no_more_events_than_it_may(tmp_path: Path) -> None:
    path = tmp_path / "seen.db"
    store = SqliteSeenEvents(path, max_events=10)
    for number in range(50):
        store.finish(f"e-{number}", store.claim(f"e-{number}", now=NOW, lease_s=60).ticket, now=NOW)

    with sqlite3.connect(path) as connection:
        kept = {row[0] for row in connection.execute("SELECT key FROM seen_events")}
    connection.close()

    assert kept == {f"e-{number}" for number in range(40, 50)}
