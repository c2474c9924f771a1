"""Makes inputs that nobody would send out of inputs that somebody would."""

import base64
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final
from urllib.parse import parse_qsl, quote, quote_plus

from tests.fuzz.case import Case

__all__ = ["mutate", "odd_text", "odd_value"]

_MOST_CHANGES: Final = 4
_LONG: Final = 70_000

_ODD_TEXTS: Final = (
    *("", " ", "\0", "\n", "\r\n", "\t", "\ufeff", "\u202e", "\ud800", "\U0001f600", "é", "e\u0301", "ß", "İ", "ﬁ"),
    *("..", "../..", "/", "//", "\\", "a/../b", "%", "%00", "%2e%2e%2f", "%zz", "#", "?", "*", "[", "(", "${x}", "{}"),
    *("null", "None", "true", "false", "0", "-1", "1e999", "NaN", "Infinity", "0x10", "٣", "1_000", "007", "+1", "1.0"),
    *("9" * 5000, "a" * 300, "a" * 1025, "é" * 600, "/" * 1024, "*" * 200, "**/" * 60 + "x", "a,b;c=d", "'", '"', "`"),
    *("2026-03-01T12:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.9999999-12:00", "2026-02-30T00:00:00Z"),
    *(
        "1970-01-01T00:00:00Z",
        "2026-03-01",
        "2026-03-01T25:00:00Z",
        "now",
        "60 * * * * *",
        "*/0 * * * * *",
        "0 0 0 31 2 *",
    ),
    *("https://tidegatelocal.blob.core.windows.net/input/flights/new/a.parquet", "http://127.0.0.1:1/", "https://[::1"),
    *(
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://evil.example/x",
        "//evil.example",
        "https://a@b.c/",
        "https://:0",
    ),
    *("' or 1 eq 1", "<script>", "$(reboot)", ";reboot", "__proto__", "constructor", "PartitionKey", "odata.etag"),
)
_ODD_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *([], {}, [[]], [None], {"": ""}, {"a": {"b": {"c": []}}}, [1, "1", 1.0, True]),
)


def mutate(case: Case, rng: Random, pool: Sequence[Case]) -> Case:
    """Return the case with a few changes: of its structure where a part has one, of its bytes, of its parts.

    Args:
        case: A valid input, as a rule.
        rng: Decides; the same one decides the same.
        pool: Other inputs, of which parts may be taken over.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, _MOST_CHANGES))):
        case = _change(case, rng, pool)
    return case


def odd_text(rng: Random) -> str:
    """Return a text that has surprised a program before."""
    return rng.choice(_ODD_TEXTS)


def odd_value(rng: Random) -> Any:
    """Return a JSON value that has."""
    return rng.choice(_ODD_TEXTS) if rng.random() < 0.5 else rng.choice(_ODD_VALUES)


def _change(case: Case, rng: Random, pool: Sequence[Case]) -> Case:
    names = [name for name, _ in case.parts]
    dice = rng.random()
    if not names or dice < 0.04:
        other = rng.choice(pool)
        return case.with_part(*(rng.choice(other.parts) if other.parts else (odd_text(rng), b"")))
    name = rng.choice(names)
    if dice < 0.07:
        return case.without(name)
    if dice < 0.12:
        donors = [value for other in pool if (value := other.get(name)) is not None]
        return case.with_part(name, rng.choice(donors)) if donors else case
    value = case.get(name) or b""
    return case.with_part(name, _change_bytes(value, rng) if dice < 0.35 else _change_content(value, rng))


def _change_content(value: bytes, rng: Random) -> bytes:
    """Change what the bytes mean: a JSON document, plain or in base64; a query; lines of a file; words."""
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        pass
    else:
        return _write_json(_change_json(document, rng), rng)
    try:
        inner = base64.b64decode(value, validate=True)
        document = json.loads(inner)
    except (ValueError, RecursionError):
        pass
    else:
        return base64.b64encode(_write_json(_change_json(document, rng), rng))
    if value.count(b"\n") > 2:
        return _change_lines(value, rng)
    if b"=" in value and b" " not in value:
        return _change_query(value, rng)
    return _change_words(value, rng)


def _write_json(document: Any, rng: Random) -> bytes:
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, None, 1)))
    dice = rng.random()
    if dice < 0.02:
        text = "\ufeff" + text
    elif dice < 0.04 and text.startswith("{") and len(text) > 2:
        text = "{" + '"id": 1, ' + text[1:] + rng.choice(("", " ", "\n", "x", "{}"))  # a key twice, and more after it
    elif dice < 0.05:
        return text.encode("utf-16", "surrogatepass")
    elif dice < 0.06:
        text = "[" * rng.choice((3, 900, 20_000)) + text
    return text.encode("utf-8", "surrogatepass")


def _change_json(document: Any, rng: Random) -> Any:
    places = list(_places(document, ()))
    path = rng.choice(places)
    return _replace(document, path, lambda value: _change_value(value, rng))


def _places(value: Any, path: tuple[Any, ...]) -> "Sequence[tuple[Any, ...]]":
    found: list[tuple[Any, ...]] = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += _places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:20]):
            found += _places(item, (*path, index))
    return found


def _replace(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(value)
    if isinstance(value, dict):
        return {key: _replace(item, path[1:], change) if key == path[0] else item for key, item in value.items()}
    return [_replace(item, path[1:], change) if index == path[0] else item for index, item in enumerate(value)]


def _change_value(value: Any, rng: Random) -> Any:
    match value:
        case dict() if rng.random() < 0.7:
            return _change_keys(dict(value), rng)
        case list() if value and rng.random() < 0.7:
            index = rng.randrange(len(value))
            return rng.choice(
                (value[:index], value + [value[index]] * rng.choice((1, 2, 120)), value[::-1], [*value, None])
            )
        case str() if rng.random() < 0.6:
            return _change_words(value.encode("utf-8", "surrogatepass"), rng).decode(errors="replace")
        case bool():
            return rng.choice((not value, str(value).lower(), int(value), odd_value(rng)))
        case int() | float() if rng.random() < 0.6:
            return rng.choice((-value, value + 1, value * 10**9, str(value), 2**63, 2**53 + 1))
        case _:
            return odd_value(rng)


def _change_keys(value: dict[str, Any], rng: Random) -> dict[str, Any]:
    key = rng.choice(list(value)) if value else ""
    match rng.randrange(5):
        case 0:
            value.pop(key, None)
        case 1:
            value[odd_text(rng)] = odd_value(rng)
        case 2 if key:
            value[key.swapcase() if rng.random() < 0.5 else key + rng.choice((" ", "_", "\0"))] = value.pop(key)
        case 3 if len(value) > 1:
            other = rng.choice(list(value))
            value[key], value[other] = value[other], value[key]
        case _:
            value[key] = odd_value(rng)
    return value


def _change_query(value: bytes, rng: Random) -> bytes:
    pairs = parse_qsl(value.decode(errors="replace"), keep_blank_values=True)
    if not pairs:
        return _change_words(value, rng)
    index = rng.randrange(len(pairs))
    name, old = pairs[index]
    match rng.randrange(5):
        case 0:
            del pairs[index]
        case 1:
            pairs.append((name, old))
        case 2:
            pairs.append((odd_text(rng), odd_text(rng)))
        case 3:
            pairs[index] = (name, _change_words(old.encode("utf-8", "surrogatepass"), rng).decode(errors="replace"))
        case _:
            pairs[index] = (name, odd_text(rng))
    write = rng.choice((quote, quote_plus, str))
    return "&".join(f"{_written(key, write)}={_written(item, write)}" for key, item in pairs).encode(errors="replace")


def _written(text: str, write: Callable[[str], str]) -> str:
    return write(text.encode(errors="replace").decode())


def _change_lines(value: bytes, rng: Random) -> bytes:
    lines = value.split(b"\n")
    index, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            del lines[index]
        case 1:
            lines.insert(other, lines[index])
        case 2:
            lines[index], lines[other] = lines[other], lines[index]
        case 3 if b"=" in lines[index]:
            key = lines[index].partition(b"=")[0]
            lines[index] = key + b"= " + _toml_value(rng)
        case 4:
            lines.insert(index, _name(rng) + b" = " + _toml_value(rng))
        case _:
            lines[index] = _change_words(lines[index], rng)
    return b"\n".join(lines)


def _toml_value(rng: Random) -> bytes:
    if rng.random() < 0.5:
        return json.dumps(odd_text(rng)).encode()
    values = (
        b"0",
        b"-1",
        b"1_000",
        b"9" * 30,
        b"0x1f",
        b"1e400",
        b"nan",
        b"inf",
        b"true",
        b"[]",
        b"{}",
        b"[[]]",
        b"''",
    )
    return rng.choice((*values, b"2026-03-01T00:00:00Z", b"2026-03-01", b"12:00:00", b"{ a = 1 }", b'["a", 1]'))


def _name(rng: Random) -> bytes:
    return rng.choice(
        (b"policy", b"kind", b"missed", b"x", b'""', b'"a.b"', b"a.b.c", b"schema", b"[pipelines", b"[[x]]")
    )


def _change_words(value: bytes, rng: Random) -> bytes:
    text = value.decode(errors="replace")
    if not text:
        return odd_text(rng).encode(errors="replace")
    at = rng.randrange(len(text) + 1)
    until = rng.randrange(at, len(text) + 1)
    match rng.randrange(5):
        case 0:
            changed = odd_text(rng)
        case 1:
            changed = text[:at] + odd_text(rng) + text[at:]
        case 2:
            changed = text[:at] + text[until:]
        case 3:
            changed = (text * 3)[:_LONG]
        case _:
            changed = text[:at] + odd_text(rng) + text[until:]
    return changed.encode(errors="replace")


def _change_bytes(value: bytes, rng: Random) -> bytes:
    data = bytearray(value)
    at = rng.randrange(len(data) + 1)
    match rng.randrange(6):
        case 0 if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            del data[at : at + rng.choice((1, 2, 8, 64, 1024))]
        case 2:
            data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 32)))
        case 3:
            data[at:at] = data[at : at + rng.choice((1, 8, 64))] * rng.choice((1, 2, 50))
        case 4:
            data = data[:at]
        case _:
            data[at : at + 1] = rng.choice(
                (b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b'"', b"{", b"]", b"\\u0000", b"\n")
            )
    return bytes(data[: _LONG * 4])
