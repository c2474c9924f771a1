"""Reads `pipelines.toml` strictly: every mistake in one error, each with its place, the value and what was expected."""

import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Mapping
from typing import Final

from functions.core.errors import InvalidConfigurationError, Problem
from functions.core.globs import MAX_GLOB_LENGTH
from functions.core.limits_toml import read_limits, read_max_runs_per_day
from functions.core.model import MODEL_NAME, JobKey, PipelineKey, RunKind, Stage
from functions.core.parameters import STAGES_OF_KIND, TUNABLE, check_tunable, defaults_of
from functions.core.pipeline_contradictions import contradictions
from functions.core.pipelines import (
    DEFAULT_STALLED_AFTER_MINUTES,
    Batching,
    Concurrency,
    ConcurrencyPolicy,
    Output,
    Pipeline,
    Pipelines,
    Route,
    TrainingData,
)
from functions.core.readiness_toml import MOST_FILES, read_readiness
from functions.core.reading import Reader, shown
from functions.core.schedules_toml import read_schedule
from functions.core.signals_toml import read_signals
from functions.core.stages import missing_prerequisites
from functions.core.turnstile import EVERY

__all__ = ["parse_pipelines"]

_KEY: Final = r"[a-z][a-z0-9_]{0,47}"
_CONTAINER: Final = r"[a-z0-9](-?[a-z0-9]){2,62}"
_MAX_BYTES: Final = 1024 * 1024
_WEEK_S: Final = 7 * 24 * 3600
_MONTH_MINUTES: Final = 31 * 24 * 60
_COMMON_KEYS: Final = ("stages", "parameters", "callers_may_set", "routes", "schedules", "batching", "readiness")
_OPTIONAL_KEYS: Final = (*_COMMON_KEYS, "alias", "concurrency", "retry", "signals", "sla", "budget")


def parse_pipelines(data: bytes, *, file: str, known_jobs: Collection[JobKey]) -> Pipelines:
    """Return the pipelines that a file describes.

    Args:
        data: The file's bytes, TOML in UTF-8.
        file: The file's name, for the messages.
        known_jobs: The jobs that have a template in job_templates/.

    Raises:
        InvalidConfigurationError: Anything is wrong; lists all of it.
    """
    problems: list[Problem] = []
    root = Reader(_parse_toml(data, file), f"{file}: ", problems)
    root.place = ""  # key paths begin at the top; the file is put before them at the end
    root.mapping(required=("schema", "pipelines"), optional=("limits",))
    if not root.child("schema").is_absent:
        root.child("schema").constant(1)
    table = root.child("pipelines")
    if not table.is_absent and (not isinstance(table.value, Mapping) or not table.value):
        table.refuse("a table of at least one pipeline")
    pipelines = tuple(_read_pipeline(name, reader, known_jobs) for name, reader in table.children())
    limits = read_limits(root.child("limits"))
    problems.extend([*contradictions(pipelines, problems)])
    if problems:
        raise InvalidConfigurationError(
            [Problem(f"{file}: {item.place}", item.got, item.expected) for item in problems]
        )
    content = json.dumps(root.value, sort_keys=True, separators=(",", ":"))
    # The order of pipelines and routes is meaning, but sort_keys loses the pipelines' order.
    order = json.dumps([pipeline.key for pipeline in pipelines])
    version = hashlib.sha256((content + order).encode()).hexdigest()[:16]
    return Pipelines(pipelines=pipelines, version=version, limits=limits)


def _parse_toml(data: bytes, file: str) -> Mapping[str, object]:
    if len(data) > _MAX_BYTES:
        raise InvalidConfigurationError([Problem(file, f"{len(data)} bytes", f"at most {_MAX_BYTES}")])
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise InvalidConfigurationError([Problem(f"{file}: byte {error.start}", "no UTF-8", "UTF-8")]) from error
    except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
        raise InvalidConfigurationError([Problem(file, str(error) or "too deep nesting", "TOML")]) from error


def _read_pipeline(name: str, reader: Reader, known_jobs: Collection[JobKey]) -> Pipeline:
    if name == EVERY:
        reader.problems.append(Problem(reader.place, shown(name), "another name: this one stands for all pipelines"))
    if not re.fullmatch(_KEY, name):
        reader.problems.append(Problem(reader.place, shown(name), "a name like flight_delay_scoring, at most 48 long"))
    mistakes = len(reader.problems)
    kind = reader.child("kind").one_of(RunKind) if isinstance(reader.value, Mapping) else RunKind.TRAINING
    if len(reader.problems) == mistakes:
        own = "training_data" if kind is RunKind.TRAINING else "output"
        reader.mapping(required=("kind", "job", "model", own), optional=_OPTIONAL_KEYS)
    else:  # without its kind, nobody knows which of the two it needs
        reader.mapping(required=("job", "model"), optional=("kind", "training_data", "output", *_OPTIONAL_KEYS))
    routes = tuple(_read_route(item) for item in _optional_items(reader.child("routes")))
    batching = _read_batching(reader.child("batching"))
    job = reader.child("job")
    if not job.is_absent and job.value not in known_jobs:
        job.refuse(f"a job with a template, one of {', '.join(sorted(known_jobs)) or 'none'}")
    return Pipeline(
        key=PipelineKey(name),
        kind=kind,
        job=JobKey(str(job.value)),
        model_name=_present(reader.child("model"), MODEL_NAME, "catalog.schema.model", max_length=255),
        alias=reader.child("alias").text(pattern=_KEY, expected="an alias like champion", default="champion"),
        stages=_read_stages(reader.child("stages"), kind),
        parameters=_read_parameters(reader.child("parameters"), kind),
        callers_may_set=_read_callers_may_set(reader.child("callers_may_set"), kind),
        routes=routes,
        schedules=tuple(read_schedule(item) for item in _optional_items(reader.child("schedules"))),
        signals=read_signals(reader.child("signals"), kind, own_model=str(reader.child("model").value)),
        training_data=_read_training_data(reader.child("training_data")),
        output=_read_output(reader.child("output"), name),
        batching=batching,
        readiness=read_readiness(reader.child("readiness"), batching, has_routes=bool(routes)),
        concurrency=_read_concurrency(reader.child("concurrency")),
        max_attempts=_read_max_attempts(reader.child("retry")),
        stalled_after_minutes=_read_stalled_after(reader.child("sla")),
        max_runs_per_day=read_max_runs_per_day(reader.child("budget")),
    )


def _present(reader: Reader, pattern: str, expected: str, *, max_length: int | None = None) -> str:
    """Return a required text; its absence was noted where the keys were."""
    return "" if reader.is_absent else reader.text(pattern=pattern, expected=expected, max_length=max_length)


def _optional_items(reader: Reader) -> list[Reader]:
    return [] if reader.is_absent else reader.items(max_items=100)


def _read_stages(reader: Reader, kind: RunKind) -> dict[Stage, bool]:
    stages = dict.fromkeys(STAGES_OF_KIND[kind], True)
    if not reader.is_absent and reader.mapping(optional=[stage.value for stage in stages]):
        for stage in stages:
            stages[stage] = reader.child(stage.value).boolean(default=True)
        for lack in missing_prerequisites(kind, stages, checkpoints=frozenset()):
            reader.problems.append(Problem(reader.place, "a plan that cannot work", lack))
    return stages


def _read_parameters(reader: Reader, kind: RunKind) -> dict[str, str]:
    parameters = defaults_of(kind)
    if not reader.is_absent and reader.mapping(optional=None):
        for name, value in reader.children():
            problem = check_tunable(kind, name, value.value, value.place)
            if problem is None:
                parameters[name] = str(value.value)
            else:
                reader.problems.append(problem)
    return parameters


def _read_callers_may_set(reader: Reader, kind: RunKind) -> frozenset[str]:
    names: set[str] = set()
    for item in _optional_items(reader):
        if isinstance(item.value, str) and item.value in TUNABLE[kind]:
            names.add(item.value)
        else:
            item.refuse(f"one of {', '.join(TUNABLE[kind])}")
    return frozenset(names)


def _read_place(reader: Reader) -> tuple[str, str]:
    """Return container and prefix of a route or of training data."""
    container = _present(reader.child("container"), _CONTAINER, "a container's name")
    prefix = reader.child("prefix")
    is_prefix = prefix.is_absent or (isinstance(prefix.value, str) and _is_prefix(prefix.value))
    if not is_prefix:
        prefix.refuse(
            'text that is empty or ends with "/", without "..", "//" or a leading "/", so that in/ is not inbox/'
        )
    return container, prefix.value if is_prefix and isinstance(prefix.value, str) else ""


def _is_prefix(text: str) -> bool:
    segments = text.split("/")
    return not text or (segments[-1] == "" and all(part not in {"", ".", ".."} for part in segments[:-1]))


def _read_glob(reader: Reader) -> str:
    pattern = r"[^\[\]{}\\]+"
    return reader.text(
        pattern=pattern,
        expected="a glob of *, **, ? and plain characters",
        max_length=MAX_GLOB_LENGTH,
        default="**",
    )


def _read_route(reader: Reader) -> Route:
    optional = ("glob", "suffix", "min_size_bytes", "max_size_bytes", "content_types")
    reader.mapping(required=("name", "container", "prefix"), optional=optional)
    container, prefix = _read_place(reader)
    minimum = reader.child("min_size_bytes").integer(minimum=1, default=1)
    maximum, suffix = reader.child("max_size_bytes"), reader.child("suffix")
    content_types = [
        item.text(pattern=r"[\w.+-]+/[\w.+-]+", expected="a media type like text/csv")
        for item in _optional_items(reader.child("content_types"))
    ]
    return Route(
        name=_present(reader.child("name"), _KEY, "a name like new_flights"),
        container=container,
        prefix=prefix,
        glob=_read_glob(reader.child("glob")),
        suffix="" if suffix.is_absent else suffix.text(min_length=1, max_length=MAX_GLOB_LENGTH),
        min_size_bytes=minimum,
        max_size_bytes=None if maximum.is_absent else maximum.integer(minimum=minimum),
        content_types=frozenset(item.lower() for item in content_types),
    )


def _read_training_data(reader: Reader) -> TrainingData | None:
    if reader.is_absent:
        return None
    reader.mapping(required=("container", "prefix"), optional=("glob",))
    container, prefix = _read_place(reader)
    return TrainingData(container=container, prefix=prefix, glob=_read_glob(reader.child("glob")))


def _read_output(reader: Reader, name: str) -> Output | None:
    if reader.is_absent:
        return None
    reader.mapping(required=("container",))
    return Output(container=_present(reader.child("container"), _CONTAINER, "a container's name"), prefix=f"{name}/")


def _read_batching(reader: Reader) -> Batching:
    if reader.is_absent:
        return Batching()
    reader.mapping(optional=("quiet_seconds", "max_wait_seconds", "max_files"))
    quiet = reader.child("quiet_seconds").integer(minimum=0, maximum=_WEEK_S, default=0)
    wait = reader.child("max_wait_seconds")
    return Batching(
        quiet_seconds=quiet,
        max_wait_seconds=wait.integer(minimum=quiet, maximum=_WEEK_S, default=quiet),
        max_files=reader.child("max_files").integer(minimum=1, maximum=MOST_FILES, default=1000),
    )


def _read_concurrency(reader: Reader) -> Concurrency:
    if reader.is_absent:
        return Concurrency()
    reader.mapping(optional=("policy", "max_active"))
    policy = reader.child("policy").one_of(ConcurrencyPolicy, default=ConcurrencyPolicy.PARALLEL)
    most = 1000 if policy is ConcurrencyPolicy.PARALLEL else 1
    return Concurrency(
        policy=policy,
        max_active=reader.child("max_active").integer(minimum=1, maximum=most, default=min(most, 4)),
    )


def _read_max_attempts(reader: Reader) -> int:
    if reader.is_absent:
        return 1
    reader.mapping(required=("max_attempts",))
    attempts = reader.child("max_attempts")
    return 1 if attempts.is_absent else attempts.integer(minimum=1, maximum=20)


def _read_stalled_after(reader: Reader) -> int:
    if reader.is_absent:
        return DEFAULT_STALLED_AFTER_MINUTES
    reader.mapping(required=("stalled_after_minutes",))
    minutes = reader.child("stalled_after_minutes")
    return DEFAULT_STALLED_AFTER_MINUTES if minutes.is_absent else minutes.integer(minimum=1, maximum=_MONTH_MINUTES)
