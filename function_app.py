"""Registers the functions with the Functions host, and nothing else."""

import azure.functions as func

from functions.triggers.acting import acting_functions
from functions.triggers.http import http_functions
from functions.triggers.pipelines import pipeline_functions
from functions.triggers.queues import queue_functions
from functions.triggers.reading import reading_functions
from functions.triggers.replays import replay_functions
from functions.triggers.timers import timer_functions
from functions.wiring import configuration

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
app.register_functions(http_functions())
app.register_functions(reading_functions())
app.register_functions(acting_functions())
app.register_functions(pipeline_functions())
app.register_functions(replay_functions())

# With a mistake in the configuration nothing listens: messages stay in their queues, untouched and uncounted, until
# it is mended, and health is red with every mistake named (docs/decisions/0015).
_configuration = configuration()
if _configuration.settings is not None and _configuration.pipelines is not None:
    app.register_functions(queue_functions(_configuration.settings))
    app.register_functions(timer_functions(_configuration.settings, _configuration.pipelines))
