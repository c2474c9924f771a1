"""Renders pages; everything that comes from a run is escaped or shut into a sandboxed frame."""

import json
import time
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from local.databricks.workspace.jobs.runs import Run
from local.databricks.workspace.jobs.states import LifeCycle, Result, RunState
from local.databricks.workspace.pages.model import Cell, Overview, RunPage, TaskView
from local.databricks.workspace.pages.prose import prose

__all__ = ["message_page", "overview_page", "run_page"]

_STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")

_MARKDOWN = frozenset({"md", "markdown"})

_REFRESH = """
const refresh = async () => {
  try {
    const text = await (await fetch(location.href)).text();
    const page = new DOMParser().parseFromString(text, "text/html");
    const [now, next] = [document.querySelector("main"), page.querySelector("main")];
    if (now.dataset.mark !== next.dataset.mark) {
      const open = new Set([...now.querySelectorAll("details[open]")].map(d => d.id));
      next.querySelectorAll("details").forEach(d => { if (d.id && open.has(d.id)) d.open = true; });
      now.replaceWith(next);
    }
    if (!next.dataset.live) return;
  } catch (error) { /* the workspace may be restarting: try again */ }
  setTimeout(refresh, 1000);
};
if (document.querySelector("main").dataset.live) setTimeout(refresh, 1000);
"""


def overview_page(overview: Overview, nonce: str) -> str:
    """Return the workspace's jobs and newest runs."""
    runs = "".join(
        f'<tr><td><a href="/jobs/{run.job_id}/runs/{run.run_id}">{run.run_id}</a></td><td>{escape(run.name)}</td>'
        f"<td>{_badge(run.state)}</td><td>{_moment(run.start_ms)}</td>"
        f"<td class=num>{_duration(_elapsed(run))}</td></tr>"
        for run in overview.runs
    )
    jobs = "".join(f"<tr><td>{job.job_id}</td><td>{escape(job.name)}</td></tr>" for job in overview.jobs)
    live = any(not run.state.is_terminal for run in overview.runs)
    return _document(
        "Local Databricks workspace",
        f"<h1>Local Databricks workspace</h1><p class=soft>Experiments and models: "
        f'<a href="{escape(overview.mlflow_url)}">MLflow</a></p>'
        f"<h2>Runs</h2><div class=card>{_table(('Run', 'Job', 'State', 'Started', 'Duration'), runs)}</div>"
        f"<h2>Jobs</h2><div class=card>{_table(('Id', 'Name'), jobs)}</div>",
        nonce,
        live=live,
    )


def run_page(page: RunPage, nonce: str) -> str:
    """Return everything there is to see of a run."""
    run = page.run
    parts = [
        _head(run),
        *(_error(task) for task in page.tasks if task.attempt.error or task.attempt.state.message),
        _results(page),
        _pictures(page),
        *(_task(task, many=len(page.tasks) > 1) for task in page.tasks),
    ]
    return _document(f"{run.name} · run {run.run_id}", "".join(parts), nonce, live=not run.state.is_terminal)


def message_page(message: str, nonce: str) -> str:
    """Return a page that says one thing."""
    return _document("Local Databricks workspace", f"<h1>{escape(message)}</h1><p><a href='/'>All runs</a></p>", nonce)


def _document(title: str, main: str, nonce: str, *, live: bool = False) -> str:
    attributes = f' data-mark="{hash(main)}"' + (" data-live=1" if live else "")
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
        f'<meta name=viewport content="width=device-width"><style>{_STYLE}</style></head>'
        f'<body><main{attributes}>{main}</main><script nonce="{nonce}">{_REFRESH}</script></body></html>'
    )


def _head(run: Run) -> str:
    facts = [
        ("Started", _moment(run.start_ms)),
        ("Duration", _duration(_elapsed(run))),
        ("Run", str(run.run_id)),
        ("Job", str(run.job_id)),
    ]
    if run.queued_ms:
        facts.append(("Queued for", _duration(run.queued_ms)))
    if run.state.code is not None:
        facts.append(("Ended with", run.state.code.value))
    listed = "".join(f"<li><b>{name}</b>{escape(value)}</li>" for name, value in facts)
    return (
        f'<div class=crumbs><a href="/">Workspace</a> / job {run.job_id} / run {run.run_id}</div>'
        f"<h1>{escape(run.name)} {_badge(run.state)}</h1><ul class=facts>{listed}</ul>"
    )


def _error(task: TaskView) -> str:
    attempt = task.attempt
    if attempt.state.result is Result.SUCCESS:
        return ""
    trace = (
        f"<details id=trace-{attempt.task_run_id}><summary>Trace</summary>"
        f"<pre>{escape(attempt.error_trace)}</pre></details>"
        if attempt.error_trace
        else ""
    )
    said = f"<pre>{escape(attempt.error)}</pre>" if attempt.error else ""
    return (
        f'<div class="card bad"><b>{escape(attempt.task_key)}</b>: {escape(attempt.state.message)}{said}{trace}</div>'
    )


def _results(page: RunPage) -> str:
    rows = [
        _made(
            "Experiment run",
            f"{page.mlflow_url}/#/experiments/{quote(made.experiment_id)}/runs/{quote(made.mlflow_run_id)}",
            made.mlflow_run_id,
        )
        for made in page.experiment_runs
    ]
    rows += [
        _made(
            "Model version",
            f"{page.mlflow_url}/#/models/{quote(made.name, safe='')}/versions/{quote(made.version)}",
            f"{made.name} {made.version}",
        )
        for made in page.versions
    ]
    return f"<h2>Made by this run</h2><div class=card><table>{''.join(rows)}</table></div>" if rows else ""


def _made(kind: str, url: str, name: str) -> str:
    return f'<tr><td class=key>{kind}</td><td><a href="{escape(url)}">{escape(name)}</a></td></tr>'


def _pictures(page: RunPage) -> str:
    figures = "".join(
        f'<figure><a href="{source}"><img src="{source}" alt="{escape(picture.path)}" loading=lazy></a>'
        f"<figcaption>{escape(picture.path)}</figcaption></figure>"
        for picture in page.pictures
        if (
            source := f"/jobs/{page.run.job_id}/runs/{page.run.run_id}/pictures/"
            f"{quote(picture.mlflow_run_id)}/{quote(picture.path)}"
        )
    )
    return f"<h2>Pictures</h2><div class=pictures>{figures}</div>" if figures else ""


def _task(task: TaskView, *, many: bool) -> str:
    attempt = task.attempt
    number = f" · attempt {attempt.attempt_number + 1}" if attempt.attempt_number else ""
    title = f"<h2 id={attempt.task_run_id}>Task {escape(attempt.task_key)}{number} {_badge(attempt.state)}</h2>"
    parts = [
        title if many else "",
        f"<p class=soft>{escape(task.notebook_path)}</p>",
        _durations(task.cells),
        _exit_value(attempt.exit_value),
        _parameters(attempt.parameters),
        "<h2>Cells</h2>" if task.cells else "",
        *(_cell(cell, f"{attempt.task_run_id}-{index}") for index, cell in enumerate(task.cells)),
    ]
    if task.log_tail:
        log = escape(task.log_tail)
        parts.append(
            f"<details id=log-{attempt.task_run_id}><summary>Driver log (its end)</summary>"
            f"<div class=card><pre>{log}</pre></div></details>"
        )
    return "".join(parts)


def _durations(cells: Sequence[Cell]) -> str:
    code = [cell for cell in cells if cell.title and cell.language not in _MARKDOWN]
    longest = max((cell.duration_s or 0 for cell in code), default=0) or 1
    rows = "".join(
        f'<span>{escape(cell.title)}</span><div class="bar {escape(cell.state)}" '
        f'style="width:{max(1, round(100 * (cell.duration_s or 0) / longest))}%"></div>'
        f"<span class=num>{_seconds(cell.duration_s)}</span>"
        for cell in code
    )
    return f"<h2>Durations</h2><div class='card bars'>{rows}</div>" if rows else ""


def _exit_value(value: str | None) -> str:
    if value is None:
        return ""
    try:
        shown = json.dumps(json.loads(value), indent=2, ensure_ascii=False)
    except ValueError:
        shown = value
    return f"<h2>Result</h2><div class=card><pre>{escape(shown)}</pre></div>"


def _parameters(parameters: dict[str, str]) -> str:
    rows = "".join(
        f"<tr><td class=key>{escape(name)}</td><td class=code>{escape(value)}</td></tr>"
        for name, value in parameters.items()
    )
    return f"<h2>Parameters</h2><div class=card><table>{rows}</table></div>" if rows else ""


def _cell(cell: Cell, anchor: str) -> str:
    if cell.language in _MARKDOWN:
        return f"<div class=prose>{prose(cell.source)}</div>"
    source = f"<pre>{escape(cell.source)}</pre>"
    shown = (
        f"<details id=source-{anchor}><summary>Source</summary><div class=source>{source}</div></details>"
        if cell.title
        else f"<div class=source>{source}</div>"
    )
    text = f"<div class=output><pre>{escape(cell.text)}</pre></div>" if cell.text else ""
    framed = _framed(cell.html) if cell.html else ""
    head = f"<header><span>{escape(cell.title)}</span><span class=num>{_seconds(cell.duration_s)}</span></header>"
    return f'<div class="cell {escape(cell.state)}">{head}{shown}{text}{framed}</div>'


def _framed(html: str) -> str:
    """Return a notebook's HTML in a frame without rights; a frame cannot tell its height, so it is guessed."""
    height = 440 if "<img" in html or "<svg" in html else min(440, 84 + 26 * (html.count("<tr") + html.count("<p")))
    return f'<iframe sandbox srcdoc="{escape(html)}" style="height:{height}px" loading=lazy></iframe>'


def _badge(state: RunState) -> str:
    shown = state.result.value if state.is_terminal and state.result is not None else state.life_cycle.value
    if state.result is Result.SUCCESS:
        colour = "good"
    elif state.is_terminal and state.life_cycle is not LifeCycle.SKIPPED and state.result is not Result.EXCLUDED:
        colour = "bad"
    else:
        colour = "busy" if state.life_cycle in {LifeCycle.RUNNING, LifeCycle.TERMINATING} else ""
    return f'<span class="badge {colour}">{shown.replace("_", " ").lower()}</span>'


def _table(heads: Iterable[str], rows: str) -> str:
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{rows}</table>"


def _elapsed(run: Run) -> int | None:
    return run.end_ms - run.start_ms if run.end_ms else None


def _moment(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(milliseconds / 1000))


def _duration(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "not over yet"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"  # noqa: PLR2004


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.1 else f"{seconds:.1f} s"  # noqa: PLR2004 - where 0.1 s begins
