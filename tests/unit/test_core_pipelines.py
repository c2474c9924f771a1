"""Holds the reader of `pipelines.toml` to naming every mistake, and the committed file to being right."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.core.errors import InvalidConfigurationError, UnknownPipelineError
from functions.core.limits import Limits
from functions.core.model import JobKey, PipelineKey, RunKind, Stage
from functions.core.parameters import STAGES_OF_KIND, TUNABLE, check_tunable, defaults_of
from functions.core.pipelines import (
    ConcurrencyPolicy,
    LateFiles,
    MissedSlots,
    OnTimeout,
    Pipelines,
    Readiness,
    ReadinessKind,
)
from functions.core.pipelines_toml import parse_pipelines

ROOT = Path(__file__).parents[2]
JOBS = [JobKey("scoring"), JobKey("training")]

TRAINING = """
[pipelines.train]
kind = "training"
job = "training"
model = "main.tidegate.m"
[pipelines.train.training_data]
container = "input"
prefix = "history/"
"""
SCORING = """
[pipelines.score]
kind = "scoring"
job = "scoring"
model = "main.tidegate.m"
[[pipelines.score.routes]]
name = "new"
container = "input"
prefix = "new/"
[pipelines.score.output]
container = "scores"
"""


def parse(text: str) -> Pipelines:
    return parse_pipelines(("schema = 1\n" + text).encode(), file="pipelines.toml", known_jobs=JOBS)


def mistakes_of(text: str) -> list[str]:
    with pytest.raises(InvalidConfigurationError) as refused:
        parse(text)
    return [str(problem).removeprefix("pipelines.toml: ") for problem in refused.value.problems]


def test_committed_file_is_right() -> None:
    """What this repository starts with, against the job templates it has."""
    jobs = [JobKey(path.stem) for path in (ROOT / "job_templates").glob("*.json")]
    assert jobs != []

    pipelines = parse_pipelines((ROOT / "pipelines.toml").read_bytes(), file="pipelines.toml", known_jobs=jobs)

    training = pipelines.get(PipelineKey("flight_delay_training"))
    scoring = pipelines.get(PipelineKey("flight_delay_scoring"))
    assert [(s.name, s.cron.expression, s.missed) for s in training.schedules] == [
        ("monthly_retraining", "0 0 3 1 * *", MissedSlots.LATEST)
    ]
    assert training.input_places() == ("input/flights/history/",)
    assert scoring.input_places() == ("input/flights/new/",)
    assert scoring.output is not None
    assert (scoring.output.container, scoring.output.prefix) == ("scores", "flight_delay_scoring/")
    assert scoring.model_name == training.model_name == "main.tidegate.flight_delay"
    assert scoring.reads("input", "flights/new/a.parquet")
    assert not scoring.reads("input", "flights/history/a.parquet")


@pytest.mark.parametrize("kind", RunKind)
def test_defaults_are_those_of_the_job_template(kind: RunKind) -> None:
    """A run started by hand and one started by us begin from the same numbers."""
    template = json.loads((ROOT / "job_templates" / f"{kind.value}.json").read_text())
    defaults = {parameter["name"]: parameter["default"] for parameter in template["parameters"]}

    assert {name: defaults[name] for name in TUNABLE[kind]} == defaults_of(kind)
    assert {stage.value: defaults[stage.value] for stage in STAGES_OF_KIND[kind]} == dict.fromkeys(
        STAGES_OF_KIND[kind], "true"
    )


@pytest.mark.parametrize("kind", RunKind)
def test_documented_parameters_are_those_of_the_file(kind: RunKind) -> None:
    pipelines = parse_pipelines((ROOT / "pipelines.toml").read_bytes(), file="pipelines.toml", known_jobs=JOBS)
    pipeline = next(pipeline for pipeline in pipelines.pipelines if pipeline.kind is kind)

    assert pipeline.parameters == defaults_of(kind)
    assert pipeline.callers_may_set == set(TUNABLE[kind])


def test_defaults_are_filled_in() -> None:
    pipelines = parse(TRAINING + SCORING)
    score = pipelines.get(PipelineKey("score"))

    assert pipelines.jobs == {"training", "scoring"}
    assert all(score.stages.values())
    assert (score.alias, score.max_attempts, score.callers_may_set) == ("champion", 1, frozenset())
    assert (score.batching.quiet_seconds, score.batching.max_wait_seconds, score.batching.max_files) == (0, 0, 1000)
    assert (score.concurrency.policy, score.concurrency.capacity) == (ConcurrencyPolicy.PARALLEL, 4)
    assert (score.routes[0].glob, score.routes[0].min_size_bytes) == ("**", 1)
    assert pipelines.get(PipelineKey("train")).training_data is not None
    with pytest.raises(UnknownPipelineError, match="known pipelines: score, train"):
        pipelines.get(PipelineKey("x"))


def test_limits_and_budgets_can_be_said_and_have_defaults() -> None:
    usual = parse(TRAINING)
    said = parse(
        "limits = { max_in_flight = 7, max_starts_per_second = 2, max_runs_per_day = 100 }\n"
        + TRAINING.replace("kind =", "budget = { max_runs_per_day = 3 }\nkind =")
    )

    assert usual.limits == Limits(max_in_flight=50, max_starts_per_second=5, max_runs_per_day=None)
    assert usual.pipelines[0].max_runs_per_day is None
    assert said.limits == Limits(max_in_flight=7, max_starts_per_second=2, max_runs_per_day=100)
    assert said.pipelines[0].max_runs_per_day == 3
    assert said.version != usual.version


def test_every_mistake_in_limits_and_budgets_is_listed() -> None:
    wrong = "limits = { max_in_flight = 0, max_starts_per_second = 21, max_runs_per_day = true, max_runs = 1 }\n"
    budget = "budget = { max_runs_a_day = 3 }\nkind ="

    assert mistakes_of(wrong + TRAINING.replace("kind =", budget)) == [
        "pipelines.train.budget.max_runs_per_day: got nothing, expected a value",
        "pipelines.train.budget.max_runs_a_day: got an unknown key, expected one of max_runs_per_day",
        "limits.max_runs: got an unknown key, expected one of max_in_flight, max_starts_per_second, max_runs_per_day",
        "limits.max_in_flight: got 0, expected a whole number from 1 to 1000",
        "limits.max_starts_per_second: got 21, expected a whole number from 1 to 20",
        "limits.max_runs_per_day: got True, expected a whole number from 1 to 1000000",
    ]


def test_no_pipeline_is_called_as_all_of_them_are() -> None:
    assert mistakes_of(TRAINING.replace("pipelines.train", "pipelines.all")) == [
        "pipelines.all: got 'all', expected another name: this one stands for all pipelines"
    ]


def test_everything_can_be_said() -> None:
    pipelines = parse(
        SCORING.replace(
            'prefix = "new/"',
            'prefix = ""\nglob = "*.csv"\nsuffix = "s.csv"\nmin_size_bytes = 10\n'
            'max_size_bytes = 20\ncontent_types = ["Text/CSV"]',
        )
        + """
[[pipelines.score.schedules]]
name = "daily"
cron = "0 0 1 * * *"
timezone = "Europe/Berlin"
[pipelines.score.stages]
publish = false
[pipelines.score.batching]
quiet_seconds = 30
[pipelines.score.readiness]
kind = "none"
[pipelines.score.concurrency]
policy = "supersede"
[pipelines.score.retry]
max_attempts = 3
[pipelines.score.sla]
stalled_after_minutes = 90
"""
    )
    score = pipelines.get(PipelineKey("score"))

    (route,) = score.routes
    assert (route.suffix, route.min_size_bytes, route.max_size_bytes) == ("s.csv", 10, 20)
    assert route.content_types == {"text/csv"}
    assert (score.batching.quiet_seconds, score.batching.max_wait_seconds) == (30, 30)
    assert score.stages[Stage.PUBLISH] is False
    assert (score.concurrency.capacity, score.max_attempts, score.stalled_after_minutes) == (1, 3, 90)
    schedule = score.schedule("daily")
    assert schedule is not None
    assert (schedule.missed, schedule.timezone, schedule.has_timer) == (MissedSlots.LATEST, "Europe/Berlin", False)
    assert score.schedule("hourly") is None


@pytest.mark.parametrize(
    ("table", "readiness"),
    [
        ('kind = "marker"', Readiness(kind=ReadinessKind.MARKER, name="_SUCCESS")),
        (
            'kind = "manifest"\nname = "files.json"\nlate = "quarantine"',
            Readiness(kind=ReadinessKind.MANIFEST, name="files.json", late=LateFiles.QUARANTINE),
        ),
        (
            'kind = "count"\ncount = 50000\non_timeout = "start"',
            Readiness(kind=ReadinessKind.COUNT, count=50_000, on_timeout=OnTimeout.START),
        ),
    ],
)
def test_readiness_of_each_kind(table: str, readiness: Readiness) -> None:
    pipelines = parse(SCORING + f"[pipelines.score.batching]\nquiet_seconds = 5\n[pipelines.score.readiness]\n{table}")

    assert pipelines.get(PipelineKey("score")).readiness == readiness


def test_two_pipelines_may_not_wait_for_the_same_marker_of_the_same_folders() -> None:
    """Nobody could say whose files it speaks of."""
    waiting = '[pipelines.score.batching]\nquiet_seconds = 5\n[pipelines.score.readiness]\nkind = "marker"\n'
    one = SCORING.replace('prefix = "new/"', 'prefix = "new/"\nglob = "*.csv"') + waiting
    other = (SCORING.replace('prefix = "new/"', 'prefix = "new/deep/"\nglob = "*.txt"') + waiting).replace(
        "pipelines.score", "pipelines.other"
    )

    assert mistakes_of(one + other) == [
        (
            "pipelines.other.readiness.name: got '_SUCCESS', expected a name that score, which reads the same folders, "
            "does not wait for"
        )
    ]
    assert parse(one + other.replace('kind = "marker"', 'kind = "marker"\nname = "done"')).by_key
    assert parse(one + other.replace('"new/deep/"', '"elsewhere/"')).by_key


def test_version_is_of_the_content_not_of_the_layout() -> None:
    version = parse(TRAINING + SCORING).version

    assert parse("# a comment\n" + TRAINING + "\n\n" + SCORING).version == version
    assert parse(SCORING + TRAINING).version != version  # the order of pipelines is meaning
    assert parse(TRAINING + SCORING.replace('"new/"', '"newer/"')).version != version


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("", ["pipelines: got nothing, expected a value"]),
        ("pipelines = 3", ["pipelines: got 3, expected a table of at least one pipeline"]),
        ("[pipelines]", ["pipelines: got an object of 0 key(s), expected a table of at least one pipeline"]),
        ("[pipelines]\nscore = 3", ["pipelines.score: got 3, expected an object"]),
        (TRAINING + "[extra]", ["extra: got an unknown key, expected one of schema, pipelines, limits"]),
        (
            TRAINING.replace("pipelines.train", "pipelines.Train"),
            ["pipelines.Train: got 'Train', expected a name like flight_delay_scoring, at most 48 long"],
        ),
        (
            TRAINING.replace('"training"\nmodel', '"flying"\nmodel'),
            ["pipelines.train.job: got 'flying', expected a job with a template, one of scoring, training"],
        ),
        (
            TRAINING.replace('kind = "training"', 'kind = "tuning"'),
            ["pipelines.train.kind: got 'tuning', expected one of training, scoring"],
        ),
        (
            TRAINING.replace("main.tidegate.m", "m"),
            ["pipelines.train.model: got 'm', expected catalog.schema.model"],
        ),
        (
            SCORING.replace("output", "training_data").replace('container = "scores"', 'container="x"'),
            [
                "pipelines.score.output: got nothing, expected a value",
                ("pipelines.score.training_data: got an unknown key, expected one of kind, job, model, output, stages, "
                "parameters, callers_may_set, routes, schedules, batching, readiness, alias, concurrency, retry, "
                "signals, sla, budget"),
                "pipelines.score.training_data.prefix: got nothing, expected a value",
                "pipelines.score.training_data.container: got 'x', expected a container's name",
            ],
        ),
        (
            TRAINING + "[pipelines.train.stages]\ntraining = 1\nflying = true",
            [
                ("pipelines.train.stages.flying: got an unknown key, expected one of feature_engineering, training, "
                "evaluation, publish"),
                "pipelines.train.stages.training: got 1, expected true or false",
                "pipelines.train.stages: got a plan that cannot work, expected evaluation needs training",
                "pipelines.train.stages: got a plan that cannot work, expected publish needs training",
            ],
        ),
        (
            TRAINING + '[pipelines.train.parameters]\nseed = 3\nnum_leaves = "9999"\nspeed = "1"',
            [
                ("pipelines.train.parameters.seed: got int, expected a string with a whole number of at most "
                "nine digits"),
                "pipelines.train.parameters.num_leaves: got '9999', expected a whole number from 2 to 4096",
                ("pipelines.train.parameters.speed: got 'speed', expected one of learning_rate, num_leaves, "
                "n_estimators, seed"),
            ],
        ),
        (
            TRAINING.replace("kind =", 'callers_may_set = ["seed", "wheel"]\nkind ='),
            [
                ("pipelines.train.callers_may_set[1]: got 'wheel', expected one of learning_rate, num_leaves, "
                "n_estimators, seed")
            ],
        ),
        (
            SCORING.replace('"new/"', '"new"'),
            [
                ("pipelines.score.routes[0].prefix: got 'new', expected text that is empty or ends with \"/\", without "
                '"..", "//" or a leading "/", so that in/ is not inbox/')
            ],
        ),
        (
            SCORING.replace('prefix = "new/"', 'prefix = "new/"\nglob = "[ab]"\nmin_size_bytes = 0\nsuffix = ""'),
            [
                ("pipelines.score.routes[0].min_size_bytes: got 0, expected a whole number from 1 to "
                "9223372036854775807"),
                "pipelines.score.routes[0].glob: got '[ab]', expected a glob of *, **, ? and plain characters",
                "pipelines.score.routes[0].suffix: got '', expected text of 1 to 256 characters",
            ],
        ),
        (
            SCORING + '[[pipelines.score.schedules]]\nname = "x"\ncron = "0 3 1 * *"\nmissed = "often"',
            [
                ("pipelines.score.schedules[0].cron: got '0 3 1 * *', expected six fields (second minute hour day "
                "month weekday), got 5"),
                "pipelines.score.schedules[0].missed: got 'often', expected one of run, skip, latest",
            ],
        ),
        *(
            (
                SCORING + f'[[pipelines.score.schedules]]\nname = "x"\ncron = "0 0 3 * * *"\ntimezone = "{zone}"',
                [f"pipelines.score.schedules[0].timezone: got {zone!r}, expected an IANA time zone like Europe/Berlin"],
            )
            for zone in ("Europe/Atlantis", "Europe", "../etc/passwd", "")
        ),
        (
            SCORING + "[[pipelines.score.schedules]]\nname = 3",
            [
                "pipelines.score.schedules[0].cron: got nothing, expected a value",
                "pipelines.score.schedules[0].name: got 3, expected a name like monthly_retraining",
            ],
        ),
        (
            SCORING + "[pipelines.score.batching]\nquiet_seconds = 60\nmax_wait_seconds = 30\nmax_files = 0",
            [
                "pipelines.score.batching.max_wait_seconds: got 30, expected a whole number from 60 to 604800",
                "pipelines.score.batching.max_files: got 0, expected a whole number from 1 to 50000",
            ],
        ),
        (
            SCORING + '[pipelines.score.concurrency]\npolicy = "queue"\nmax_active = 2',
            ["pipelines.score.concurrency.max_active: got 2, expected a whole number from 1 to 1"],
        ),
        (
            SCORING + '[pipelines.score.retry]\n[pipelines.score.readiness]\nkind = "telepathy"',
            [
                "pipelines.score.readiness.kind: got 'telepathy', expected one of none, marker, manifest, count",
                "pipelines.score.retry.max_attempts: got nothing, expected a value",
            ],
        ),
        (
            SCORING + "[pipelines.score.sla]\nstalled_after_minutes = 0\nat = 1",
            [
                "pipelines.score.sla.at: got an unknown key, expected one of stalled_after_minutes",
                "pipelines.score.sla.stalled_after_minutes: got 0, expected a whole number from 1 to 44640",
            ],
        ),
        (
            SCORING + '[pipelines.score.readiness]\nkind = "marker"\nname = "a/b"\ncount = 3',
            [
                ("pipelines.score.readiness.count: got an unknown key, expected one of kind, name, on_timeout, late"),
                "pipelines.score.readiness.name: got 'a/b', expected a name within the folder, at most 255 long",
                ("pipelines.score.readiness: got a marker without a quiet period, expected batching.quiet_seconds of "
                "at least 1: the marker's event may come before those of the files"),
            ],
        ),
        (
            SCORING + '[pipelines.score.readiness]\nkind = "manifest"\nlate = "never"\non_timeout = "start"',
            [
                "pipelines.score.readiness.name: got nothing, expected a value",
                "pipelines.score.readiness.late: got 'never', expected one of new_version, quarantine",
                ("pipelines.score.readiness.on_timeout: got 'start', expected batching.max_wait_seconds of at least "
                "1, after which it starts"),
            ],
        ),
        (
            SCORING + '[pipelines.score.readiness]\nkind = "count"\ncount = 0',
            ["pipelines.score.readiness.count: got 0, expected a whole number from 1 to 50000"],
        ),
        (
            SCORING + '[pipelines.score.readiness]\nkind = "none"\nlate = "quarantine"',
            ["pipelines.score.readiness.late: got an unknown key, expected one of kind"],
        ),
        (
            TRAINING + '[pipelines.train.readiness]\nkind = "count"\ncount = 3',
            ["pipelines.train.readiness: got 'count' without routes, expected a pipeline that has routes"],
        ),
    ],
)  # fmt: skip
def test_mistake_is_named_with_place_value_and_expectation(text: str, mistakes: list[str]) -> None:
    assert mistakes_of(text) == mistakes


def test_wrong_schema_is_refused() -> None:
    with pytest.raises(InvalidConfigurationError, match="schema: got 2, expected 1"):
        parse_pipelines(b"schema = 2\n" + TRAINING.encode(), file="pipelines.toml", known_jobs=JOBS)
    with pytest.raises(InvalidConfigurationError, match="schema: got nothing"):
        parse_pipelines(TRAINING.encode(), file="pipelines.toml", known_jobs=JOBS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a = ", "pipelines.toml: got Invalid value .* expected TOML"),
        (b"\xff", "pipelines.toml: byte 0: got no UTF-8"),
        (b"#" * 1_048_577, "expected at most 1048576"),
        (b"a = " + b"[" * 100_000, "expected TOML"),
    ],
)
def test_what_is_no_toml_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidConfigurationError, match=message):
        parse_pipelines(data, file="pipelines.toml", known_jobs=JOBS)


def test_all_mistakes_come_in_one_error() -> None:
    """One edit mends the file, not one per start."""
    broken = TRAINING.replace("main.tidegate.m", "m").replace("history/", "../") + SCORING.replace("scores", "S")

    assert [mistake.split(":")[0] for mistake in mistakes_of(broken)] == [
        "pipelines.train.model",
        "pipelines.train.training_data.prefix",
        "pipelines.score.output.container",
    ]


def make_route(pipeline: str, name: str, **fields: str | int | list[str]) -> str:
    body = "\n".join(f"{key} = {json.dumps(value)}" for key, value in fields.items())
    return f'\n[[pipelines.{pipeline}.routes]]\nname = "{name}"\n{body}\n'


SECOND = SCORING.replace("pipelines.score", "pipelines.again")


@pytest.mark.parametrize(
    ("text", "is_shadowed"),
    [
        (SCORING + make_route("score", "later", container="input", prefix="new/", glob="*.csv"), True),
        (SCORING + make_route("score", "later", container="input", prefix="new/deep/"), True),
        (SCORING + make_route("score", "later", container="input", prefix="newer/"), False),
        (SCORING + make_route("score", "later", container="inbox", prefix="new/"), False),
        (SCORING.replace('"new/"', '"new/"\nglob = "*.csv"')
         + make_route("score", "later", container="input", prefix="new/"), False),
        (SCORING.replace('"new/"', '"new/"\nmax_size_bytes = 10')
         + make_route("score", "later", container="input", prefix="new/"), False),
        (SCORING.replace('"new/"', '"new/"\nmax_size_bytes = 10')
         + make_route("score", "later", container="input", prefix="new/", max_size_bytes=5), True),
        (SCORING.replace('"new/"', '"new/"\nmin_size_bytes = 10')
         + make_route("score", "later", container="input", prefix="new/"), False),
        (SCORING.replace('"new/"', '"new/"\ncontent_types = ["text/csv"]')
         + make_route("score", "later", container="input", prefix="new/"), False),
        (SCORING.replace('"new/"', '"new/"\ncontent_types = ["text/csv", "a/b"]')
         + make_route("score", "later", container="input", prefix="new/", content_types=["a/b"]), True),
        (SCORING + SECOND, True),
    ],
)  # fmt: skip
def test_route_that_no_blob_can_reach_is_refused(text: str, is_shadowed: bool) -> None:
    """An earlier route that wants all that a later one wants, in the same pipeline or across pipelines."""
    if not is_shadowed:
        assert parse(text).pipelines != ()
        return
    (mistake,) = mistakes_of(text)
    assert "which pipelines.score.routes[0] ('new') shadows" in mistake


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (SCORING.replace('"scores"', '"input"').replace('"new/"', '""'), "input/ of pipelines.score.routes[0]"),
        (SCORING.replace('"scores"', '"input"').replace('"new/"', '"score/in/"'), "input/score/in/ of"),
        (TRAINING.replace('"history/"', '"score/"') + SCORING.replace('"scores"', '"input"'),
         "input/score/ of pipelines.train.training_data"),
    ],
)  # fmt: skip
def test_output_that_is_an_input_is_refused(text: str, place: str) -> None:
    """R46: scores can never start scoring."""
    (mistake,) = mistakes_of(text)

    assert mistake.startswith("pipelines.score.output: got input/score/, expected a place apart from the input")
    assert place in mistake


def test_output_beside_its_input_is_fine() -> None:
    assert parse(SCORING.replace('"scores"', '"input"')).pipelines != ()


@pytest.mark.parametrize("container", ["tidegate", "deadletter"])
def test_own_containers_are_neither_input_nor_output(container: str) -> None:
    assert mistakes_of(SCORING.replace('"scores"', f'"{container}"')) == [
        f"pipelines.score.output: got '{container}', expected a container that Tidegate does not keep its own data in"
    ]


def test_names_are_given_once() -> None:
    text = (
        SCORING
        + make_route("score", "new", container="other", prefix="")
        + 2 * '[[pipelines.score.schedules]]\nname = "x"\ncron = "0 0 0 * * *"\n'
    )

    assert mistakes_of(text) == [
        "pipelines.score.routes[1].name: got 'new', expected a name that no other of the routes has",
        "pipelines.score.schedules[1].name: got 'x', expected a name that no other of the schedules has",
    ]


@example(key="callers_may_set", value=[[]])
@given(
    value=st.recursive(
        st.integers() | st.booleans() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["kind", "name", "x"]), inner),
        max_leaves=4,
    ),
    key=st.sampled_from(
        (
            *("kind", "job", "model", "alias", "stages", "parameters", "callers_may_set", "routes", "schedules"),
            *("training_data", "output", "batching", "readiness", "concurrency", "retry"),
        )
    ),
)
def test_any_value_anywhere_is_read_or_refused(key: str, value: Any) -> None:
    """A wrong file is an error that says so, never a crash at start."""
    text = f"schema = 1\n[pipelines.score]\n{json.dumps(key)} = {to_toml(value)}\n"

    with pytest.raises(InvalidConfigurationError):
        parse_pipelines(text.encode(), file="pipelines.toml", known_jobs=JOBS)


def to_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {to_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value % 2**62)
    return json.dumps(value).replace("\\u007f", "\\u0001").replace("\x7f", "")


@pytest.mark.parametrize(
    ("kind", "name", "value", "is_right"),
    [
        (RunKind.TRAINING, "learning_rate", "0.05", True),
        (RunKind.TRAINING, "learning_rate", "0", False),
        (RunKind.TRAINING, "learning_rate", ".0", False),
        (RunKind.TRAINING, "learning_rate", "1.0", True),
        (RunKind.TRAINING, "num_leaves", "1", False),
        (RunKind.TRAINING, "num_leaves", "2", True),
        (RunKind.TRAINING, "n_estimators", "5001", False),
        (RunKind.TRAINING, "seed", "1\n", False),
        (RunKind.TRAINING, "seed", "٣", False),
        (RunKind.TRAINING, "seed", "1" * 40, False),
        (RunKind.TRAINING, "seed", 1, False),
        (RunKind.TRAINING, "max_quarantined_fraction", "0", False),
        (RunKind.SCORING, "max_quarantined_fraction", "0", True),
        (RunKind.SCORING, "max_quarantined_fraction", "1.5", False),
    ],
)
def test_tunable_parameter_is_bounded(kind: RunKind, name: str, value: object, is_right: bool) -> None:
    """R18: typed, bounded, allow-listed; nothing that could be a path, a newline or a number out of range."""
    assert (check_tunable(kind, name, value, "x") is None) == is_right


def test_every_key_is_documented() -> None:
    """docs/pipelines.md names each key that the reader knows."""
    text = (ROOT / "docs/pipelines.md").read_text()
    (mistake,) = mistakes_of(SCORING + "[pipelines.score.unknown]")
    (limits,) = mistakes_of("limits = { unknown = 1 }\n" + TRAINING)
    keys = [key for text_of in (mistake, limits) for key in text_of.split("expected one of ")[1].split(", ")]

    assert len(keys) > 10
    assert [key for key in keys if f"`{key}" not in text] == []


def test_contradictions_are_named_beside_other_mistakes() -> None:
    """One edit can mend all: a typing error elsewhere does not hide that an output is an input."""
    text = (
        SCORING.replace('"scores"', '"input"').replace('"new/"', '"score/"').replace("kind =", 'colour = "red"\nkind =')
    )
    shadowed = '[[pipelines.score.routes]]\nname = "late"\ncontainer = "input"\nprefix = "score/late/"\n'

    mistakes = mistakes_of(text + shadowed)

    assert [mistake.partition(":")[0] for mistake in mistakes] == [
        "pipelines.score.colour",
        "pipelines.score.routes[1]",
        "pipelines.score.output",
        "pipelines.score.output",
    ]


def test_a_place_that_is_wrong_in_itself_contradicts_nothing() -> None:
    """What stands in for a wrong prefix would seem to shadow everything and to read every output."""
    wrong = '[[pipelines.score.routes]]\nname = "all"\ncontainer = "scores"\nprefix = "score"\n'
    later = '[[pipelines.score.routes]]\nname = "late"\ncontainer = "scores"\nprefix = "late/"\n'

    assert [mistake.partition(":")[0] for mistake in mistakes_of(SCORING + wrong + later)] == [
        "pipelines.score.routes[1].prefix"
    ]
