"""Reads the signals of `pipelines.toml`: which events about a model ask for a retraining."""

from typing import Final

from functions.core.model import MODEL_NAME, RunKind, SignalType
from functions.core.pipelines import SignalRule, Threshold
from functions.core.reading import Reader

__all__ = ["read_signals"]

_NAME: Final = r"[a-z][a-z0-9_]{0,47}"
_YEAR_HOURS: Final = 366 * 24


def read_signals(reader: Reader, kind: RunKind, *, own_model: str) -> tuple[SignalRule, ...]:
    """Return the signals that a pipeline listens to; every mistake is noted in the reader.

    Args:
        reader: The pipeline's `signals`.
        kind: The pipeline's kind: a signal asks for training.
        own_model: The pipeline's model, which a signal is about unless it says otherwise.
    """
    if reader.is_absent:
        return ()
    if kind is not RunKind.TRAINING:
        reader.refuse("no signals: they ask for training, and this pipeline scores")
        return ()
    return tuple(_read_signal(item, own_model) for item in reader.items(max_items=100))


def _read_signal(reader: Reader, own_model: str) -> SignalRule:
    reader.mapping(required=("name", "event_type", "cooldown_hours"), optional=("model", "threshold"))
    name, event_type, hours = reader.child("name"), reader.child("event_type"), reader.child("cooldown_hours")
    return SignalRule(
        name="" if name.is_absent else name.text(pattern=_NAME, expected="a name like drift"),
        event_type=SignalType.DRIFT_DETECTED if event_type.is_absent else event_type.one_of(SignalType),
        model_name=reader.child("model").text(
            pattern=MODEL_NAME, expected="catalog.schema.model", max_length=255, default=own_model
        ),
        cooldown_hours=1 if hours.is_absent else hours.integer(minimum=0, maximum=_YEAR_HOURS),
        threshold=_read_threshold(reader.child("threshold")),
    )


def _read_threshold(reader: Reader) -> Threshold | None:
    if reader.is_absent or not reader.mapping(required=("metric",), optional=("at_least", "at_most")):
        return None
    metric, least, most = reader.child("metric"), reader.child("at_least"), reader.child("at_most")
    name = "" if metric.is_absent else metric.text(pattern="[A-Za-z0-9_.:/-]{1,100}", expected="a metric's name")
    if least.is_absent == most.is_absent:
        reader.refuse("exactly one of at_least and at_most")
        return None
    return Threshold(
        metric=name,
        at_least=None if least.is_absent else least.number(),
        at_most=None if most.is_absent else most.number(),
    )
