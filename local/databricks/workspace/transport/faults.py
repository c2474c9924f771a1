"""Decides which requests go wrong on purpose, and how."""

import re
from dataclasses import dataclass, field
from typing import Any

from local.databricks.workspace.transport.errors import InvalidParameterError
from local.databricks.workspace.transport.params import JsonObject

__all__ = ["FaultAction", "FaultPlan", "FaultRule"]

_RULE_KEYS = {"method", "path", "times", "action"}
_ACTION_KEYS = {"delay_s", "status", "retry_after", "body", "drop_response", "kill_run_after_s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultAction:
    """What happens to a matched request, in this order: wait, refuse or execute, drop the answer, kill."""

    delay_s: float = 0.0
    status: int | None = None
    """Answer this status instead of executing the request."""

    retry_after: str | None = None
    """The header's text: seconds, or a date."""

    body: JsonObject | None = None
    drop_response: bool = False
    """Execute the request, then close the connection without an answer."""

    kill_run_after_s: float | None = None
    """Execute the request; kill the process of the run that it answered, so long after the process started."""


@dataclass(slots=True, kw_only=True)
class FaultRule:
    """Which requests are matched, and how often still."""

    rule_id: int
    method: str
    path: re.Pattern[str]
    remaining: int
    action: FaultAction
    hits: int = 0


@dataclass(slots=True)
class FaultPlan:
    """The rules in force; the first that matches wins, and is used up by it."""

    rules: list[FaultRule] = field(default_factory=list)
    _last_id: int = 0

    def add(self, document: JsonObject) -> FaultRule:
        """Return the rule that the JSON object describes, now in force."""
        self._last_id += 1
        rule = _parse(document, self._last_id)
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget every rule."""
        self.rules.clear()

    def take(self, method: str, path: str) -> FaultAction | None:
        """Return what is to happen to this request, counting it, or None."""
        for rule in self.rules:
            if rule.remaining > 0 and rule.method in {"*", method} and rule.path.search(path):
                rule.remaining -= 1
                rule.hits += 1
                return rule.action
        return None


def _parse(document: JsonObject, rule_id: int) -> FaultRule:
    unknown = sorted(set(document) - _RULE_KEYS)
    action = document.get("action")
    if unknown or not isinstance(action, dict):
        raise InvalidParameterError(
            f"a fault rule has the keys {sorted(_RULE_KEYS)} and an object as action; unknown: {unknown}"
        )
    try:
        pattern = re.compile(str(document.get("path", "")))
    except re.error as error:
        raise InvalidParameterError(f"path is no regular expression: {error}") from error
    times = document.get("times", 1)
    if not isinstance(times, int) or times < 1:
        raise InvalidParameterError(f"times must be a positive whole number, not {times!r}")
    return FaultRule(
        rule_id=rule_id,
        method=str(document.get("method", "*")).upper(),
        path=pattern,
        remaining=times,
        action=_parse_action(action),
    )


def _parse_action(action: JsonObject) -> FaultAction:
    unknown = sorted(set(action) - _ACTION_KEYS)
    if unknown or not action:
        raise InvalidParameterError(f"an action has some of the keys {sorted(_ACTION_KEYS)}; unknown: {unknown}")
    kill_after = action.get("kill_run_after_s")
    return FaultAction(
        delay_s=_number(action.get("delay_s", 0), "delay_s"),
        status=None if action.get("status") is None else int(_number(action["status"], "status")),
        retry_after=_retry_after(action.get("retry_after")),
        body=action.get("body"),
        drop_response=bool(action.get("drop_response", False)),
        kill_run_after_s=None if kill_after is None else _number(kill_after, "kill_run_after_s"),
    )


def _retry_after(value: Any) -> str | None:  # Any: JSON at the border
    if value is None or isinstance(value, str):
        return value
    return str(int(_number(value, "retry_after")))


def _number(value: Any, key: str) -> float:  # Any: JSON at the border
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise InvalidParameterError(f"{key} must be a number not below 0, not {value!r}")
    return float(value)
