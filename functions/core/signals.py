"""Reads signals about a model, and finds the pipeline that one asks to retrain."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from functions.core.errors import InvalidDocumentError, Problem
from functions.core.model import MODEL_NAME, ModelSignal, SignalType
from functions.core.pipelines import Pipeline, Pipelines, SignalRule
from functions.core.reading import Reader, to_iso

__all__ = [
    "LONGEST_AHEAD",
    "Listening",
    "find_signal_rule",
    "is_signal_type",
    "signal_from_document",
    "signal_to_document",
]

LONGEST_AHEAD: Final = timedelta(days=92)  # of a window's end: a quarter that has just begun

_SCHEMA: Final = "urn:tidegate:schema:model-signal:1"
_MAX_METRICS: Final = 100
_METRIC: Final = r"[A-Za-z0-9_.:/-]{1,100}"
_TRACEPARENT: Final = "|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
_ENVELOPE_KEYS: Final = (
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "dataschema",
    "data",
)
_DATA_KEYS: Final = ("schema_version", "environment", "model", "model_version", "window", "metrics", "reason")


def signal_to_document(signal: ModelSignal) -> dict[str, object]:
    """Return the signal as its CloudEvents document, for whoever publishes one."""
    return {
        "specversion": "1.0",
        "id": signal.event_id,
        "source": signal.source,
        "type": signal.type.value,
        "subject": f"models/{signal.model_name}",
        "time": to_iso(signal.time),
        "datacontenttype": "application/json",
        "dataschema": _SCHEMA,
        "traceparent": signal.traceparent or "",
        "data": {
            "schema_version": 1,
            "environment": signal.environment,
            "model": signal.model_name,
            "model_version": signal.model_version,
            "window": {"start": to_iso(signal.window_start), "end": to_iso(signal.window_end)},
            "metrics": dict(signal.metrics),
            "reason": signal.reason,
        },
    }


def is_signal_type(event_type: object) -> bool:
    """Return whether a CloudEvents type is a signal about a model, known or not."""
    return isinstance(event_type, str) and event_type.startswith("tidegate.model.")


def signal_from_document(document: object) -> ModelSignal:
    """Return the signal in a parsed document under docs/contracts/model-signal.schema.json."""
    problems: list[Problem] = []
    root = Reader(document, "model signal", problems)
    root.mapping(required=_ENVELOPE_KEYS, optional=("datacontenttype", "traceparent"))
    root.child("specversion").constant("1.0")
    if not root.child("datacontenttype").is_absent:  # JSON by itself, as publishers that send objects leave it
        root.child("datacontenttype").constant("application/json")
    root.child("dataschema").constant(_SCHEMA)
    data = root.child("data")
    data.mapping(required=_DATA_KEYS)
    data.child("schema_version").constant(1)
    window, metrics = data.child("window"), data.child("metrics")
    window.mapping(required=("start", "end"))
    start, end = window.child("start").instant(), window.child("end").instant()
    if end < start:
        window.refuse("a window that ends after its start")
    time = root.child("time").instant()
    if end - time > LONGEST_AHEAD:
        window.child("end").refuse(f"at most {LONGEST_AHEAD.days} days after the event's time")
    model = data.child("model").text(pattern=MODEL_NAME, expected="catalog.schema.model", max_length=255)
    if not problems and root.child("subject").value != f"models/{model}":
        root.child("subject").refuse(f"'models/{model}'")
    signal = {
        "event_id": root.child("id").text(min_length=1, max_length=200),
        "source": root.child("source").text(min_length=1, max_length=400),
        "type": root.child("type").one_of(SignalType),
        "time": time,
        "environment": data.child("environment").text(pattern="[a-z][a-z0-9]{0,15}", expected="an environment's name"),
        "model_version": data.child("model_version").nullable_text(pattern="[1-9][0-9]*", expected="a model version"),
        "metrics": _read_metrics(metrics),
        "reason": data.child("reason").nullable_text(max_length=4000),
        "traceparent": root.child("traceparent").text(pattern=_TRACEPARENT, expected="a traceparent", default="")
        or None,
    }
    if problems:
        raise InvalidDocumentError(problems)
    return ModelSignal(model_name=model, window_start=start, window_end=end, **signal)  # type: ignore[arg-type] # read above


def _read_metrics(reader: Reader) -> Mapping[str, float]:
    reader.mapping(optional=None)
    children = dict(reader.children())
    if len(children) > _MAX_METRICS:
        reader.refuse(f"at most {_MAX_METRICS} metrics")
        return {}
    for name, child in children.items():
        Reader(name, f"{child.place} (name)", reader.problems).text(pattern=_METRIC, expected="a metric's name")
    return {name: child.number() for name, child in children.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """What listens to a signal: the first rule that wants it, or none and why each of them does not."""

    pipeline: Pipeline | None
    rule: SignalRule | None
    refusals: tuple[str, ...] = ()  # of rules for this type and model


def find_signal_rule(signal: ModelSignal, pipelines: Pipelines) -> Listening:
    """Return the first rule, in the order of the file, that the signal satisfies."""
    refusals: list[str] = []
    for pipeline in pipelines.pipelines:
        for rule in pipeline.signals:
            if rule.event_type is not signal.type or rule.model_name != signal.model_name:
                continue
            refusal = _refusal_of(rule, signal)
            if refusal is None:
                return Listening(pipeline=pipeline, rule=rule)
            refusals.append(f"{pipeline.key}.{rule.name}: {refusal}")
    return Listening(pipeline=None, rule=None, refusals=tuple(refusals))


def _refusal_of(rule: SignalRule, signal: ModelSignal) -> str | None:
    """Return why the signal does not reach the rule's threshold, or None if it does."""
    threshold = rule.threshold
    if threshold is None:
        return None
    value = signal.metrics.get(threshold.metric)
    if value is None:
        return f"it has no metric {threshold.metric!r}"
    if threshold.at_least is not None and value < threshold.at_least:
        return f"{threshold.metric} is {value:g}, below {threshold.at_least:g}"
    if threshold.at_most is not None and value > threshold.at_most:
        return f"{threshold.metric} is {value:g}, above {threshold.at_most:g}"
    return None
