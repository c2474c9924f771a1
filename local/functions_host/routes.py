"""Matches request paths against ASP.NET route templates, the most specific template first."""

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation

from local.functions_host.errors import ConfigurationError, NotImplementedLocallyError

__all__ = ["Route", "parse_route"]

_PARAMETER = re.compile(
    r"\{(?P<star>\*{0,2})(?P<name>[A-Za-z_]\w*)(?P<constraints>(?::\w+(?:\((?:[^()]|\([^()]*\))*\))?)*)"
    r"(?:=(?P<default>[^{}?]*))?(?P<optional>\?)?\}"
)
_CONSTRAINT = re.compile(r":(\w+)(?:\(((?:[^()]|\([^()]*\))*)\))?")

Check = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A compiled template; a smaller `order` is tried first."""

    template: str
    order: tuple[int, ...]
    _pattern: re.Pattern[str]
    _checks: Mapping[str, tuple[Check, ...]]
    _defaults: Mapping[str, str]

    def match(self, path: str) -> dict[str, str] | None:
        """Return the route values of a path without leading slash, or None.

        Literals match whatever their case; values keep theirs. An absent optional value is left out.
        """
        found = self._pattern.fullmatch(path.rstrip("/"))
        if found is None:
            return None
        values = {name: value for name, value in found.groupdict().items() if value}
        for name, checks in self._checks.items():
            if name in values and not all(check(values[name]) for check in checks):
                return None
        return {**self._defaults, **values}


def parse_route(template: str) -> Route:
    """Return the compiled template.

    >>> route = parse_route("api/runs/{id:int?}")
    >>> route.match("API/runs/7"), route.match("api/runs"), route.match("api/runs/x")
    ({'id': '7'}, {}, None)

    Raises:
        ConfigurationError: The template is wrong, or uses a constraint that this host does not know.
    """
    pattern: list[str] = []
    order: list[int] = []
    checks: dict[str, tuple[Check, ...]] = {}
    defaults: dict[str, str] = {}
    segments = template.strip("/").split("/") if template.strip("/") else []
    for index, segment in enumerate(segments):
        parameters = list(_PARAMETER.finditer(segment))
        for parameter in parameters:
            if parameter["name"] in checks:
                raise ConfigurationError(f"bad route {template!r}: {parameter['name']!r} occurs twice")
            checks[parameter["name"]] = _checks(template, parameter["constraints"])
            if parameter["default"] is not None:
                defaults[parameter["name"]] = parameter["default"]
        literal = _PARAMETER.sub("", segment)
        if "{" in literal or "}" in literal:
            raise ConfigurationError(f"bad route {template!r}: cannot read {segment!r}")
        body, optional, rank = _segment(segment, parameters)
        if rank >= _CATCH_ALL and index < len(segments) - 1:
            raise ConfigurationError(f"bad route {template!r}: a catch-all comes last")
        slash = "/" if index else ""
        pattern.append(f"(?:{slash}{body})?" if optional else f"{slash}{body}")
        order.append(rank)
    return Route(
        template=template,
        order=tuple(order),
        _pattern=re.compile("".join(pattern), re.IGNORECASE),
        _checks=checks,
        _defaults=defaults,
    )


# Precedence of segments, as ASP.NET computes it: a literal wins over a parameter, a constraint over none.
_LITERAL, _CONSTRAINED, _PLAIN, _CATCH_ALL = 1, 2, 3, 5


def _segment(segment: str, parameters: list[re.Match[str]]) -> tuple[str, bool, int]:
    """Return a segment's pattern, whether it may be absent, and its rank."""
    if not parameters:
        return re.escape(segment), False, _LITERAL
    parts: list[str] = []
    end = 0
    for parameter in parameters:
        parts.append(re.escape(segment[end : parameter.start()]))
        parts.append(f"(?P<{parameter['name']}>{'.*' if parameter['star'] else '[^/]+?'})")
        end = parameter.end()
    parts.append(re.escape(segment[end:]))
    first = parameters[0]
    if first["star"]:
        return "".join(parts), True, _CATCH_ALL
    whole = len(parameters) == 1 and first.group() == segment
    optional = whole and (first["optional"] is not None or first["default"] is not None)
    return "".join(parts), optional, _CONSTRAINED if first["constraints"] or not whole else _PLAIN


def _checks(template: str, constraints: str) -> tuple[Check, ...]:
    return tuple(_check(template, name, argument) for name, argument in _CONSTRAINT.findall(constraints))


def _check(template: str, name: str, argument: str) -> Check:
    simple = _SIMPLE.get(name.lower())
    if simple is not None:
        return simple
    if name.lower() == "regex":
        expression = re.compile(argument.replace("{{", "{").replace("}}", "}"), re.IGNORECASE)
        return lambda value: expression.search(value) is not None
    try:
        numbers = [int(number) for number in argument.split(",") if argument]
    except ValueError as error:
        raise ConfigurationError(f"bad route {template!r}: {name}({argument}) needs whole numbers") from error
    make = _NUMERIC.get((name.lower(), len(numbers)))
    if make is None:
        raise NotImplementedLocallyError(f"the constraint {name!r} in the route {template!r}")
    return make(*numbers)


def _is_integer(value: str, bits: int = 64) -> bool:
    limit = 1 << (bits - 1)
    return re.fullmatch(r"[+-]?[0-9]{1,19}", value) is not None and -limit <= int(value) < limit


def _parses(parse: Callable[[str], object], errors: Iterable[type[Exception]]) -> Check:
    caught = tuple(errors)

    def check(value: str) -> bool:
        try:
            parse(value)
        except caught:
            return False
        return True

    return check


_SIMPLE: Mapping[str, Check] = {
    "int": lambda value: _is_integer(value, 32),
    "long": _is_integer,
    "alpha": lambda value: re.fullmatch(r"[A-Za-z]*", value) is not None,
    "bool": lambda value: value.lower() in {"true", "false"},
    "guid": _parses(uuid.UUID, [ValueError]),
    "datetime": _parses(datetime.fromisoformat, [ValueError]),
    "decimal": _parses(Decimal, [InvalidOperation]),
    "double": _parses(float, [ValueError]),
    "float": _parses(float, [ValueError]),
    "required": bool,
}

_NUMERIC: Mapping[tuple[str, int], Callable[..., Check]] = {
    ("length", 1): lambda exact: lambda value: len(value) == exact,
    ("length", 2): lambda low, high: lambda value: low <= len(value) <= high,
    ("minlength", 1): lambda low: lambda value: len(value) >= low,
    ("maxlength", 1): lambda high: lambda value: len(value) <= high,
    ("min", 1): lambda low: lambda value: _is_integer(value) and int(value) >= low,
    ("max", 1): lambda high: lambda value: _is_integer(value) and int(value) <= high,
    ("range", 2): lambda low, high: lambda value: _is_integer(value) and low <= int(value) <= high,
}
