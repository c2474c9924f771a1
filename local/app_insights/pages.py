"""Writes the pages a person looks at: the latest traces, and one trace as a waterfall."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Final
from urllib.parse import quote

from local.app_insights.items import Item, frames_of
from local.app_insights.traces import Span, Trace

__all__ = ["index_page", "missing_page", "trace_page"]

_ROLE_COLOURS: Final = ("#2563eb", "#d97706", "#059669", "#9333ea", "#db2777", "#0891b2", "#65a30d", "#7c3aed")
_SEVERITIES: Final = ("verbose", "information", "warning", "error", "critical")
_WARNING: Final = 2
_STYLE: Final = """
:root{--bg:#f6f7f9;--card:#fff;--ink:#16202e;--soft:#667085;--line:#e4e7ec;--rail:#f0f2f5;--bad:#c8102e}
@media(prefers-color-scheme:dark){:root{--bg:#0e141d;--card:#161e29;--ink:#e6eaf0;--soft:#93a0b4;--line:#263142;
--rail:#1c2634;--bad:#ff6b7d}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:14px/1.5 system-ui,sans-serif}
main{max-width:1240px;margin:0 auto;padding:28px 20px 60px}h1{font-size:22px;margin:0 0 4px;overflow-wrap:anywhere}
a{color:inherit}.soft{color:var(--soft)}.mono{font:12px/1.5 ui-monospace,monospace}.bad{color:var(--bad)}
.facts{display:flex;flex-wrap:wrap;gap:6px 22px;margin:10px 0 18px}.facts b{font-weight:600}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:9px 14px;border-top:1px solid var(--line)}
th{border:0;font-weight:600;color:var(--soft);font-size:12px}td.num,th.num{text-align:right;white-space:nowrap}
tr.link:hover td{background:var(--rail)}td a{text-decoration:none;font-weight:600}
details{border-top:1px solid var(--line)}details:first-child{border:0}
summary{display:grid;grid-template-columns:minmax(220px,34%) 1fr 86px;gap:12px;align-items:center;padding:5px 14px;
cursor:pointer;list-style:none}summary::-webkit-details-marker{display:none}summary:hover{background:var(--rail)}
.name{white-space:nowrap;overflow:hidden;text-overflow:ellipsis}.name i{display:inline-block;width:9px;height:9px;
border-radius:3px;margin-right:8px}.rail{position:relative;height:16px;background:var(--rail);border-radius:4px}
.bar{position:absolute;top:2px;height:12px;border-radius:3px;min-width:3px}
.dot{position:absolute;top:4px;width:8px;height:8px;margin-left:-4px;border-radius:50%;background:var(--soft)}
.bar.failed{outline:2px solid var(--bad)}.dot.bad{background:var(--bad)}.took{text-align:right;white-space:nowrap}
.more{padding:4px 14px 12px 34px}.more dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:0}
.more dt{color:var(--soft)}.more dd{margin:0;overflow-wrap:anywhere}pre{overflow:auto;margin:8px 0 0;padding:10px;
background:var(--rail);border-radius:6px}.log .name{color:var(--soft)}.log .name.bad{color:var(--bad)}
.axis{display:grid;grid-template-columns:minmax(220px,34%) 1fr 86px;gap:12px;padding:8px 14px;
border-bottom:1px solid var(--line)}
.ticks{display:flex;justify-content:space-between}
"""


def index_page(traces: Sequence[Trace]) -> str:
    """Return the page of the latest traces, the latest first."""
    rows = "".join(_index_row(trace) for trace in traces)
    table = (
        '<div class="card"><table><tr><th>Trace</th><th>Services</th><th>Began (UTC)</th><th class="num">Spans</th>'
        f'<th class="num">Problems</th><th class="num">Duration</th></tr>{rows}</table></div>'
    )
    empty = '<p class="soft">Nothing has been received yet.</p>'
    lead = '<p class="soft">The latest operations that told something. Open one to see what ran inside what.</p>'
    return _page("Traces", f"<h1>Traces</h1>{lead}{table if traces else empty}")


def trace_page(trace: Trace) -> str:
    """Return the page of one trace."""
    roles = _colours(trace)
    legend = "".join(
        f'<span class="name"><i style="background:{colour}"></i>{escape(role or "(no role)")}</span>'
        for role, colour in roles.items()
    )
    spans = trace.spans()
    rows = "".join(
        _span_row(trace, depth, row, roles) if isinstance(row, Span) else _log_row(trace, depth, row)
        for depth, row in trace.rows()
    )
    ticks = "".join(f"<span>{_duration(trace.duration_ms * part / 4)}</span>" for part in range(5))
    body = (
        f'<p><a href="/" class="soft">← All traces</a></p><h1>{escape(trace.name)}</h1>'
        f'<p class="soft mono">{escape(trace.operation_id)}</p>'
        f'<div class="facts"><span><b>{_duration(trace.duration_ms)}</b> in all</span>'
        f"<span><b>{len(spans)}</b> spans</span><span>{_problems(trace)}</span>"
        f"<span>began <b>{trace.start:%Y-%m-%d %H:%M:%S}</b> UTC</span>{legend}</div>"
        f'<div class="card"><div class="axis soft mono"><span>span</span><span class="ticks">{ticks}</span>'
        f'<span class="took">took</span></div>{rows}</div>'
    )
    return _page(trace.name, body)


def missing_page(operation_id: str) -> str:
    """Return the page for a trace that nothing is known of."""
    return _page(
        "Unknown trace",
        f'<p><a href="/" class="soft">← All traces</a></p><h1>Unknown trace</h1><p class="soft">Nothing is kept of '
        f'<span class="mono">{escape(operation_id)}</span>. Exporters send every few seconds: try again.</p>',
    )


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style></head>'
        f"<body><main>{body}</main></body></html>"
    )


def _index_row(trace: Trace) -> str:
    spans = trace.spans()
    roles = ", ".join(dict.fromkeys(escape(span.item.role) for span in spans if span.item.role))
    return (
        f'<tr class="link"><td><a href="/trace/{quote(trace.operation_id, safe="")}">{escape(trace.name)}</a> '
        f'<span class="soft mono">{escape(trace.operation_id[:8])}</span></td>'
        f'<td class="soft">{roles}</td><td class="soft">{trace.start:%Y-%m-%d %H:%M:%S}</td>'
        f'<td class="num">{len(spans)}</td><td class="num">{_problems(trace)}</td>'
        f'<td class="num">{_duration(trace.duration_ms)}</td></tr>'
    )


def _problems(trace: Trace) -> str:
    failed = sum(span.item.is_success is False for span in trace.spans())
    errors = sum(map(_is_bad, trace.logs()))
    told = [f"{failed} failed"] * bool(failed) + [f"{errors} error{'s'[: errors - 1]} logged"] * bool(errors)
    return f'<span class="bad">{", ".join(told)}</span>' if told else '<span class="soft">no problems</span>'


def _span_row(trace: Trace, depth: int, span: Span, roles: dict[str, str]) -> str:
    item, colour = span.item, roles[span.item.role]
    left, width = _percent(trace, span.start), _percent(trace, span.end) - _percent(trace, span.start)
    state = " failed" if item.is_success is False else ""
    mark = '<b class="bad">✕ </b>' if state else ""
    return (
        f'<details><summary title="{escape(item.name)}"><span class="name" style="padding-left:{depth * 18}px">'
        f'<i style="background:{colour}"></i>{mark}{escape(item.name or "(no name)")}</span>'
        f'<span class="rail"><span class="bar{state}" style="left:{left:.3f}%;width:{width:.3f}%;background:{colour}">'
        f'</span></span><span class="took mono">{_duration(item.duration_ms or 0)}</span></summary>{_more(item)}'
        "</details>"
    )


def _log_row(trace: Trace, depth: int, log: Item) -> str:
    bad = " bad" if _is_bad(log) else ""
    text = f"{log.name}: {log.message}" if log.item_type == "exception" else log.message or log.name
    offset = (log.timestamp - trace.start) / timedelta(milliseconds=1)
    return (
        f'<details class="log"><summary title="{escape(text)}"><span class="name{bad}" '
        f'style="padding-left:{depth * 18}px">· {escape(text)}</span><span class="rail"><span class="dot{bad}" '
        f'style="left:{_percent(trace, log.timestamp):.3f}%"></span></span>'
        f'<span class="took mono soft">+{_duration(offset)}</span></summary>{_more(log)}</details>'
    )


def _more(item: Item) -> str:
    facts = {
        "kind": item.item_type,
        "service": item.role,
        "began": f"{item.timestamp:%H:%M:%S.%f} UTC",
        "result": item.result_code,
        "severity": _severity(item),
        **{name: str(value) for name, value in sorted(item.dimensions.items())},
    }
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items() if value)
    stacks = "".join(f'<pre class="mono">{escape(stack)}</pre>' for stack in frames_of(item))
    return f'<div class="more mono"><dl>{listed}</dl>{stacks}</div>'


def _severity(item: Item) -> str:
    is_known = item.severity is not None and 0 <= item.severity < len(_SEVERITIES)
    return _SEVERITIES[item.severity] if is_known and item.severity is not None else ""


def _is_bad(log: Item) -> bool:
    return log.item_type == "exception" or (log.severity or 0) > _WARNING


def _colours(trace: Trace) -> dict[str, str]:
    roles = dict.fromkeys(span.item.role for span in trace.spans())
    return {role: _ROLE_COLOURS[place % len(_ROLE_COLOURS)] for place, role in enumerate(roles)}


def _percent(trace: Trace, at: datetime) -> float:
    return 100 * (at - trace.start) / max(trace.end - trace.start, timedelta(microseconds=1))


def _duration(milliseconds: float) -> str:
    """Return a duration as a person says it.

    >>> _duration(0.5), _duration(7), _duration(1240), _duration(75_000)
    ('0.5 ms', '7 ms', '1.24 s', '1 min 15 s')
    """
    if 0 < milliseconds < 10 and milliseconds % 1:  # noqa: PLR2004 - where a decimal tells something
        return f"{milliseconds:.1f} ms"
    if milliseconds < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.2f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"  # noqa: PLR2004 - a minute
