"""Defines the `tidegate` command; each command's own module is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from cli.failures import Commands, plain_errors

__all__ = ["app"]

app = Commands(
    name="tidegate",
    help="Event-driven training and batch scoring on Azure Databricks, started exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ledger = typer.Typer(name="ledger", help="Look after the run ledger itself.", no_args_is_help=True)
app.add_typer(ledger, rich_help_panel="Look")

_LOCAL = "Local cloud"
_LOOK = "Look"
_ACT = "Act"
_SHIP = "Ship"

RunArgument = Annotated[str, typer.Argument(help="The run's id, as `tidegate runs` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command(rich_help_panel=_LOCAL)
@plain_errors
def up(
    port_base: Annotated[
        int | None,
        typer.Option(help="First of the ports to use, one after another; TIDEGATE_PORT_<NAME> sets a single one."),
    ] = None,
) -> None:
    """Start the local cloud and wait until it is ready; harmless if it runs."""
    from cli.cloud_commands import bring_up

    bring_up(port_base)


@app.command(rich_help_panel=_LOCAL)
@plain_errors
def down() -> None:
    """Stop the local cloud; what it holds stays for the next start."""
    from cli.cloud_commands import stop

    stop()


@app.command(rich_help_panel=_LOCAL)
@plain_errors
def status(*, as_json: AsJson = False) -> None:
    """Show each service, its state and where to look at it; exit code 3 if the local cloud does not run."""
    from cli.cloud_commands import show_status

    show_status(as_json=as_json)


@app.command(rich_help_panel=_LOCAL)
@plain_errors
def env(
    *,
    export: Annotated[
        bool, typer.Option("--export", help='Quote the values for a shell: eval "$(tidegate env --export)".')
    ] = False,
) -> None:
    """Print the running local cloud's settings as KEY=VALUE lines, to point other tools at it."""
    from cli.cloud_commands import print_environment

    print_environment(export=export)


@app.command(rich_help_panel=_LOCAL)
@plain_errors
def logs(
    service: Annotated[str, typer.Argument(help="A service as `tidegate status` names it; none lists them.")] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 50,
) -> None:
    """Print the end of a service's log."""
    from cli.cloud_commands import print_log

    print_log(service, lines)


@app.command(rich_help_panel=_LOCAL)
@plain_errors
def demo() -> None:
    """Run the whole loop on the local cloud, from a file that lands to its scores, and show what happened."""
    from cli.demo.run import run_demo

    run_demo()


@app.command(rich_help_panel=_LOOK)
@plain_errors
def runs(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, one a run.")] = False,
    pipeline: Annotated[str | None, typer.Option(help="Only this pipeline's runs.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only runs whose cause is not older: 2026-03-01T00:00Z, or 7d.")
    ] = None,
    state: Annotated[str | None, typer.Option(help="Only runs in this state, or with this outcome.")] = None,
    blob: Annotated[str | None, typer.Option(help="Only runs that a blob of this URL was assigned to.")] = None,
    model: Annotated[str | None, typer.Option(help="Only runs of this model, or of its version: NAME/VERSION.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many, the newest.")] = 100,
) -> None:
    """List runs, the newest first."""
    from cli.listing_commands import list_runs

    list_runs(pipeline=pipeline, since=since, state=state, blob=blob, model=model, limit=limit, as_json=as_json)


@app.command(rich_help_panel=_LOOK)
@plain_errors
def arrivals(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, one an arrival.")] = False,
    pipeline: Annotated[str | None, typer.Option(help="Only arrivals that this pipeline wants.")] = None,
    since: Annotated[str | None, typer.Option(help="Only those recorded since: 2026-03-01T00:00Z, or 7d.")] = None,
    state: Annotated[str | None, typer.Option(help="Only arrivals in this state.")] = None,
    blob: Annotated[str | None, typer.Option(help="Only versions of the blob of this URL.")] = None,
    outputs: Annotated[
        bool, typer.Option("--outputs", help="Also what runs have written, and starts nothing.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many, the latest.")] = 100,
) -> None:
    """List arrivals, the latest recorded first."""
    from cli.listing_commands import list_arrivals

    list_arrivals(pipeline=pipeline, since=since, state=state, blob=blob, outputs=outputs, limit=limit, as_json=as_json)


@app.command(rich_help_panel=_LOOK)
@plain_errors
def signals(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, one a signal.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many, the newest.")] = 100,
) -> None:
    """List what monitors said about models, the newest first, and what became of it."""
    from cli.signal_commands import list_signals

    list_signals(limit=limit, as_json=as_json)


@app.command(rich_help_panel=_LOOK)
@plain_errors
def explain(
    event: Annotated[
        str,
        typer.Argument(
            help="A file with one event as Event Grid delivers it; - for standard input; an arrival's or a run's id."
        ),
    ],
    *,
    config: Annotated[
        Path | None,
        typer.Option(help="Another pipelines.toml; without it TIDEGATE_PIPELINES_FILE counts, as for the app."),
    ] = None,
    environment: Annotated[str, typer.Option(help="The environment that would decide.")] = "local",
    model_version: Annotated[
        str | None, typer.Option(help="The champion's version; with it the token is exactly the one to be sent.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="When an arrival was recorded, if that is more than a month ago.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what an event would start and why, or the story of an arrival or a run; starts nothing."""
    from cli.entry_explanation import explain_entry, is_entry_id
    from cli.explain import explain_event

    if is_entry_id(event):
        explain_entry(event, at=at, as_json=as_json)
    else:
        explain_event(Path(event), config, environment=environment, model_version=model_version, as_json=as_json)


@app.command("dead-letters", rich_help_panel=_LOOK)
@plain_errors
def dead_letters(
    *,
    prefix: Annotated[str, typer.Option(help="How their names begin: poison/2026-03-, or a subscription's name.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Also what was replayed or dismissed since, and how.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many, by name.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List what was given up and waits for a person: events not delivered, messages that nobody understood."""
    from cli.acting_commands import list_dead_letters

    list_dead_letters(prefix=prefix, every=every, limit=limit, as_json=as_json)


@app.command(rich_help_panel=_LOOK)
@plain_errors
def backfills(
    *, limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many.")] = 20, as_json: AsJson = False
) -> None:
    """List backfills, the latest first."""
    from cli.backfill_commands import list_backfills

    list_backfills(limit=limit, as_json=as_json)


@app.command(rich_help_panel=_ACT)
@plain_errors
def retry(run: RunArgument, *, as_json: AsJson = False) -> None:
    """Begin the next attempt of a run that did not complete: a new Databricks run, the same files and model."""
    from cli.acting_commands import act_on_run

    act_on_run("retry", run, as_json=as_json)


@app.command(rich_help_panel=_ACT)
@plain_errors
def cancel(run: RunArgument, *, as_json: AsJson = False) -> None:
    """Have a run end as cancelled, wherever it stands."""
    from cli.acting_commands import act_on_run

    act_on_run("cancel", run, as_json=as_json)


@app.command(rich_help_panel=_ACT)
@plain_errors
def repair(run: RunArgument, *, as_json: AsJson = False) -> None:
    """Have the failed tasks of a run's Databricks run done again, as the run's next attempt."""
    from cli.acting_commands import act_on_run

    act_on_run("repair", run, as_json=as_json)


@app.command(rich_help_panel=_ACT)
@plain_errors
def replay(
    target: Annotated[str, typer.Argument(help="An arrival's id, a run's id, or a dead letter's name.")],
    *,
    at: Annotated[
        str | None, typer.Option(help="When an arrival was recorded, if that is more than a month ago.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="A name for this replay: under one name it is done once.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send what was ignored, failed or given up the same way again; nothing is done twice."""
    from cli.acting_commands import replay as send_again

    send_again(target, at=at, key=key, as_json=as_json)


@app.command(rich_help_panel=_ACT)
@plain_errors
def dismiss(
    name: Annotated[str, typer.Argument(help="A dead letter's name.")],
    *,
    reason: Annotated[str, typer.Option(help="Why nobody needs to see to it, for those who look with --all.")],
    as_json: AsJson = False,
) -> None:
    """Say of a dead letter that it needs nobody any more: it stays, and is listed with --all only."""
    from cli.acting_commands import dismiss as say_so

    say_so(name, reason=reason, as_json=as_json)


@app.command(rich_help_panel=_ACT)
@plain_errors
def backfill(
    pipeline: Annotated[str, typer.Argument(help="The pipeline that shall get the blobs.")],
    *,
    prefix: Annotated[str, typer.Option(help="How the blobs' paths begin.")] = "",
    since: Annotated[str | None, typer.Option(help="Only blobs written since then, as 2026-03-01T00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Only blobs written before then.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Take those again that were ignored or failed.")] = False,
    per_minute: Annotated[int | None, typer.Option(min=1, max=6000, help="Blobs handed over a minute.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking first.")] = False,
    confirm: Annotated[str | None, typer.Option(help="What the dry run said: do what it counted.")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop it; the same command without this goes on.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin one anew that is done.")] = False,
    follow: Annotated[bool, typer.Option(help="Wait for it; without, it goes on all the same.")] = True,
    as_json: AsJson = False,
) -> None:
    """Hand blobs that are there already to a pipeline: first a dry run, then at a bounded rate."""
    from cli.backfill_commands import BackfillOptions, run_backfill

    options = BackfillOptions(
        pipeline=pipeline, prefix=prefix, since=since, until=until, again=again, per_minute=per_minute, yes=yes,
        confirm=confirm, stop=stop, fresh=fresh, follow=follow,
    )  # fmt: skip
    run_backfill(options, as_json=as_json)


@app.command(rich_help_panel=_LOOK)
@plain_errors
def trace(
    blob_url: Annotated[str, typer.Argument(help="URL of an input blob, of scores, or of a file among them.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Print the way from a blob to its scores, or from scores back to the blobs that they came from."""
    from cli.trace_commands import trace_blob

    trace_blob(blob_url, as_json=as_json)


Pipeline = Annotated[str, typer.Argument(help="A pipeline's name, or all.")]


@app.command(rich_help_panel=_LOOK)
@plain_errors
def pipelines(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, one a pipeline.")] = False
) -> None:
    """List the pipelines: what is in flight, what began today, what is held and why, who has paused what."""
    from cli.pipeline_commands import list_pipelines

    list_pipelines(as_json=as_json)


@app.command(rich_help_panel=_ACT)
@plain_errors
def pause(
    pipeline: Pipeline,
    *,
    reason: Annotated[str, typer.Option(help="Why, for those who find it paused.")] = "",
    as_json: AsJson = False,
) -> None:
    """Have nothing of a pipeline start any more: what comes is held in its order; harmless if it is paused."""
    from cli.pipeline_commands import pause_pipeline

    pause_pipeline(pipeline, reason=reason, as_json=as_json)


@app.command(rich_help_panel=_ACT)
@plain_errors
def resume(
    pipeline: Pipeline,
    *,
    reason: Annotated[str, typer.Option(help="Why, for the log.")] = "",
    as_json: AsJson = False,
) -> None:
    """Have what a paused pipeline holds start, the oldest first; harmless if it is not paused."""
    from cli.pipeline_commands import resume_pipeline

    resume_pipeline(pipeline, reason=reason, as_json=as_json)


@app.command(rich_help_panel=_ACT)
@plain_errors
def allow(
    pipeline: Pipeline,
    runs: Annotated[int, typer.Argument(min=0, max=1_000_000, help="How many runs may begin today (UTC) in all.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Let a pipeline begin another number of runs today than its budget says; saying it twice is saying it once."""
    from cli.pipeline_commands import allow_runs

    allow_runs(pipeline, runs, as_json=as_json)


@ledger.command("status")
@plain_errors
def ledger_status(*, as_json: AsJson = False) -> None:
    """Show whether every row is in the layout of this release."""
    from cli.ledger_upkeep import show_ledger_status

    show_ledger_status(as_json=as_json)


@ledger.command("migrate")
@plain_errors
def ledger_migrate(*, as_json: AsJson = False) -> None:
    """Bring the rows of an earlier release up to date; safe while work goes on, and to stop and repeat."""
    from cli.ledger_upkeep import migrate_ledger

    migrate_ledger(as_json=as_json)


@app.command(rich_help_panel=_SHIP)
@plain_errors
def check(
    config: Annotated[
        Path | None,
        typer.Argument(help="Another pipelines.toml; without it TIDEGATE_PIPELINES_FILE counts, as for the app."),
    ] = None,
) -> None:
    """Check pipelines.toml: every mistake at once, with place, value and what was expected."""
    from cli.configuration import check_configuration

    check_configuration(config)


@app.command(rich_help_panel=_SHIP)
@plain_errors
def deploy(
    *,
    environment: Annotated[str, typer.Option(help="Which environment; 'local' is the local cloud.")] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would change and change nothing.")] = False,
    compute: Annotated[
        str | None, typer.Option(help="A choice of job_templates/clusters/ instead of the templates' own.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE for a placeholder of the templates; repeatable.")
    ] = None,
) -> None:
    """Build the release, upload it to the workspace, and create or update the jobs; a second time changes nothing."""
    from cli.deploy.command import deploy_release

    deploy_release(environment=environment, dry_run=dry_run, compute=compute, settings=tuple(settings or ()))


if __name__ == "__main__":
    app()
