"""Holds the ledger to keeping once what a person must look at: alerts and quarantined messages."""

from datetime import timedelta

from functions.adapters.table_ledger import TableLedger
from functions.core.alerts import Alert, AlertKind
from functions.ports import QuarantinedMessage
from tests.support.ledger_at_noon import NOON, make_run


def test_alerts_are_listed_newest_first_and_each_once(ledger: TableLedger) -> None:
    for minute, attempt in ((0, 1), (1, 2), (2, 1), (9, 3)):
        alert = Alert(
            kind=AlertKind.RUN_STALLED,
            pipeline=make_run().pipeline,
            run_id=make_run().id,
            attempt=attempt,
            at=NOON + timedelta(minutes=minute),
            detail="submitted",
        )
        ledger.record_alert(alert)

    found = ledger.alerts(since=NOON, limit=10)

    assert [(alert.attempt, alert.at) for alert in found] == [
        (3, NOON + timedelta(minutes=9)),
        (1, NOON + timedelta(minutes=2)),
        (2, NOON + timedelta(minutes=1)),
    ]
    assert [alert.attempt for alert in ledger.alerts(since=NOON + timedelta(minutes=5), limit=10)] == [3]


def test_an_alert_about_a_pipelines_day_is_listed_once_a_day(ledger: TableLedger) -> None:
    """A spent budget is told again after a crash, and is still one thing to look at."""
    pipeline = make_run().pipeline
    for hours in (0, 1, 24):
        at = NOON + timedelta(hours=hours)
        ledger.record_alert(Alert(kind=AlertKind.BUDGET_SPENT, pipeline=pipeline, at=at, detail="10 of 10"))

    found = ledger.alerts(since=NOON, limit=10)

    assert [(alert.pipeline, alert.run_id, alert.attempt, alert.at) for alert in found] == [
        (pipeline, None, None, NOON + timedelta(hours=24)),
        (pipeline, None, None, NOON + timedelta(hours=1)),
    ]


def test_quarantined_messages_are_kept_once_and_listed_newest_first(ledger: TableLedger) -> None:
    for minute, id_ in ((0, "m1"), (1, "m2"), (0, "m1")):
        message = QuarantinedMessage(
            id=id_, queue="arrivals", at=NOON + timedelta(minutes=minute), reason="no event", url="https://x"
        )
        ledger.record_quarantined(message)

    assert [message.id for message in ledger.quarantined(limit=10)] == ["m2", "m1"]
