"""Keeps the notebook's parameters: `dbutils.widgets`."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["InputWidgetNotDefined", "Widgets"]


class InputWidgetNotDefined(Exception):  # noqa: N818 - the platform's name
    """The notebook asks for a widget that it never defined and that no parameter carries."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"No input widget named {self.name} is defined"


class Widgets:
    """Values by name: a parameter of the run wins over the widget's default."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = dict(parameters)
        self._defaults: dict[str, str] = {}

    def text(self, name: str, defaultValue: str, label: str | None = None) -> None:  # noqa: ARG002, N803
        """Define a widget for free text."""
        self._define(name, defaultValue)

    def dropdown(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:  # noqa: ARG002, N803
        """Define a widget for one of several values."""
        self._define_choice(name, defaultValue, choices)

    def combobox(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:  # noqa: ARG002, N803
        """Define a widget for one of several values or free text."""
        _check_strings(name, choices)
        self._define(name, defaultValue)

    def multiselect(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:  # noqa: ARG002, N803
        """Define a widget for some of several values; its value is their list, comma-separated."""
        self._define_choice(name, defaultValue, choices)

    def get(self, name: str) -> str:
        """Return a widget's value.

        Raises:
            InputWidgetNotDefined: Neither a widget nor a parameter has this name.
        """
        if name in self._parameters:
            return self._parameters[name]
        if name in self._defaults:
            return self._defaults[name]
        raise InputWidgetNotDefined(name)

    def getArgument(self, name: str, defaultValue: str | None = None) -> str:  # noqa: N802, N803
        """Return a widget's value, or the default if there is none (the old name of `get`)."""
        try:
            return self.get(name)
        except InputWidgetNotDefined:
            if defaultValue is None:
                raise
            return defaultValue

    def getAll(self) -> dict[str, str]:  # noqa: N802
        """Return every value by name."""
        return self._defaults | self._parameters

    def remove(self, name: str) -> None:
        """Forget a widget; a parameter of that name stays readable.

        Raises:
            InputWidgetNotDefined: There is no such widget.
        """
        if self._defaults.pop(name, None) is None and name not in self._parameters:
            raise InputWidgetNotDefined(name)

    def removeAll(self) -> None:  # noqa: N802
        """Forget every widget."""
        self._defaults.clear()

    def bind(self, name: str, value: str) -> None:
        """Set a parameter: what `%run ./other $name="value"` does."""
        self._parameters[name] = value

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Return what outlives a restart of Python."""
        return {"parameters": dict(self._parameters), "defaults": dict(self._defaults)}

    def restore(self, saved: Mapping[str, Mapping[str, str]]) -> None:
        """Take over what an earlier process had."""
        self._parameters, self._defaults = dict(saved["parameters"]), dict(saved["defaults"])

    def _define(self, name: str, default: object) -> None:
        _check_strings(name, [name, default])
        self._defaults[name] = str(default)

    def _define_choice(self, name: str, default: str, choices: Sequence[str]) -> None:
        _check_strings(name, choices)
        if default not in choices:
            raise ValueError(f"the default value {default!r} of the widget {name!r} is not among its choices")
        self._define(name, default)


def _check_strings(name: str, values: Sequence[object]) -> None:
    if wrong := [value for value in values if not isinstance(value, str)]:
        raise TypeError(f"the widget {name!r} takes strings, got {wrong[0]!r}")
