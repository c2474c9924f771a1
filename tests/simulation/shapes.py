"""Makes the pipelines of a schedule: windows or none, every concurrency policy, several pipelines at once."""

from dataclasses import dataclass, replace
from functools import cache

from functions.core.model import JobKey, PipelineKey
from functions.core.pipelines import ConcurrencyPolicy, Pipeline, Pipelines, Route
from functions.core.pipelines_toml import parse_pipelines

__all__ = ["ALPHA", "BETA", "CHOICES", "OUTPUTS", "TRAINING", "Shape", "shape_of"]

ALPHA = PipelineKey("alpha")
BETA = PipelineKey("beta")
TRAINING = PipelineKey("trips_training")
OUTPUTS = "scores"

_TOML = """
schema = 1
limits = {{ {limits} }}

[pipelines.trips_training]
kind = "training"
job = "training"
model = "main.tidegate.flight_delay"
concurrency = {{ policy = "queue" }}
retry = {{ max_attempts = 2 }}
callers_may_set = ["learning_rate"]
training_data = {{ container = "input", prefix = "history/", glob = "**" }}
schedules = [{{ name = "daily", cron = "0 0 12 * * *", missed = "{missed}" }}]

[[pipelines.trips_training.signals]]
name = "drift"
event_type = "tidegate.model.drift_detected.v1"
cooldown_hours = 1
threshold = {{ metric = "psi", at_least = 0.2 }}

[pipelines.alpha]
kind = "scoring"
job = "scoring"
model = "main.tidegate.flight_delay"
batching = {{ quiet_seconds = {quiet}, max_wait_seconds = {max_wait}, max_files = {max_files} }}
concurrency = {concurrency}
sla = {{ stalled_after_minutes = 10 }}
{budget}
retry = {{ max_attempts = {attempts} }}
output = {{ container = "scores" }}
routes = [{{ name = "alpha", container = "input", prefix = "alpha/", glob = "**" }}]

[pipelines.beta]
kind = "scoring"
job = "scoring"
model = "main.tidegate.flight_delay"
concurrency = {{ policy = "parallel", max_active = 2 }}
retry = {{ max_attempts = 2 }}
output = {{ container = "scores" }}
routes = [{{ name = "beta", container = "input", prefix = "beta/", glob = "**" }}]
"""
_MISSED = ("latest", "run", "skip")
_WINDOWS = ((0, 0), (0, 0), (10, 30), (30, 60))
_MAX_FILES = (1000, 2, 3)
_CONCURRENCY = (
    '{ policy = "parallel", max_active = 100 }',
    '{ policy = "parallel", max_active = 1 }',
    '{ policy = "queue" }',
    '{ policy = "supersede" }',
    '{ policy = "drop" }',
)
_LIMITS = (
    "max_in_flight = 1000, max_starts_per_second = 20",
    "max_in_flight = 1000, max_starts_per_second = 20",
    "max_in_flight = 2, max_starts_per_second = 20",
    "max_in_flight = 3, max_starts_per_second = 1, max_runs_per_day = 9",
)
_BUDGETS = ("", "", "budget = { max_runs_per_day = 4 }")
CHOICES = 9  # how many numbers choose a shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The pipelines of a schedule, and whether there is a model from the beginning."""

    pipelines: Pipelines
    has_model: bool
    outputs_make_events: bool

    @property
    def loses_work_by_policy(self) -> bool:
        """Whether a policy gives up runs that nothing is wrong with."""
        policies = {pipeline.concurrency.policy for pipeline in self.pipelines.pipelines}
        return bool(policies & {ConcurrencyPolicy.SUPERSEDE, ConcurrencyPolicy.DROP})


@cache
def shape_of(choices: tuple[int, ...]) -> Shape:
    """Return the shape that numbers choose, each modulo what there is to choose from."""
    window, max_files, concurrency, attempts, missed, has_model, outputs, limits, budget = choices
    quiet, max_wait = _WINDOWS[window % len(_WINDOWS)]
    text = _TOML.format(
        quiet=quiet,
        max_wait=max_wait,
        max_files=_MAX_FILES[max_files % len(_MAX_FILES)],
        concurrency=_CONCURRENCY[concurrency % len(_CONCURRENCY)],
        attempts=1 + attempts % 3,
        limits=_LIMITS[limits % len(_LIMITS)],
        budget=_BUDGETS[budget % len(_BUDGETS)],
        missed=_MISSED[missed % len(_MISSED)],
    )
    pipelines = parse_pipelines(
        text.encode(), file="pipelines.toml", known_jobs=[JobKey("training"), JobKey("scoring")]
    )
    makes_events = outputs % 3 == 0
    if makes_events:
        pipelines = replace(pipelines, pipelines=tuple(_with_trap(pipeline) for pipeline in pipelines.pipelines))
    return Shape(pipelines=pipelines, has_model=has_model % 4 != 0, outputs_make_events=makes_events)


def _with_trap(pipeline: Pipeline) -> Pipeline:
    """Return beta with a route over the outputs, which no file could give it: the decision must refuse them too."""
    if pipeline.key != BETA:
        return pipeline
    return replace(pipeline, routes=(*pipeline.routes, Route(name="trap", container=OUTPUTS, prefix="", glob="**")))
