"""A Functions app whose queue and timer functions record every run, and fail, wait or die as they are told."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

_RECORDING = threading.Lock()


def _record(**facts: object) -> None:
    """Append one line to the file that the test reads."""
    line = json.dumps({"pid": os.getpid(), "at": time.time(), **facts})
    with _RECORDING, Path(os.environ["RECORD_FILE"]).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


@app.route("enqueue", methods=["POST"])
@app.queue_output(arg_name="out", queue_name="%WORK_QUEUE%", connection="AzureWebJobsStorage")
def enqueue(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse:
    """Send the body to the queue that `work` listens to."""
    out.set(req.get_body().decode())
    return func.HttpResponse(status_code=202)


@app.route("sleep", methods=["POST"])
def sleep(req: func.HttpRequest) -> func.HttpResponse:
    """Take as long as the body says."""
    _record(function="sleep")
    time.sleep(float(req.get_body()))
    return func.HttpResponse()


@app.route("spawn", methods=["POST"])
def spawn(req: func.HttpRequest) -> func.HttpResponse:
    """Start a process that would outlive the worker, and answer with its id."""
    del req
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    return func.HttpResponse(str(child.pid))


@app.route("block", methods=["POST"])
async def block(req: func.HttpRequest) -> func.HttpResponse:
    """Block the worker's event loop."""
    _record(function="block")
    time.sleep(float(req.get_body()))  # noqa: ASYNC251 - the mistake is the point
    return func.HttpResponse()


@app.queue_trigger(arg_name="message", queue_name="%WORK_QUEUE%", connection="Storage")
def work(message: func.QueueMessage, context: func.Context) -> None:
    """Do what the message says, and record that it came.

    `sleep 2`, `fail 1` and `die 1` say for how long, or in how many first attempts.
    """
    text = message.get_body().decode()
    attempt = message.dequeue_count or 0
    _record(
        function="work",
        text=text,
        attempt=attempt,
        id=message.id,
        inserted=message.insertion_time is not None,
        traceparent=context.trace_context.trace_parent,
    )
    verb, _, argument = text.partition(" ")
    if verb == "sleep":
        time.sleep(float(argument))
    if verb == "fail" and attempt <= int(argument):
        raise RuntimeError(text)
    if verb == "die" and attempt <= int(argument):
        os._exit(3)
    if verb == "linger" and attempt == 1:
        time.sleep(float(argument))
    _record(function="work", text=text, attempt=attempt, done=True)


@app.queue_trigger(
    arg_name="message", queue_name="%WORK_QUEUE%-binary", connection="Storage", data_type=func.DataType.BINARY
)
@app.queue_output(arg_name="$return", queue_name="%WORK_QUEUE%", connection="Storage")
def binary(message: func.QueueMessage) -> str:
    """Send the body's length on."""
    return json.dumps([f"length {len(message.get_body())}", "second"])


@app.timer_trigger(schedule="%TICK%", arg_name="timer")
def tick(timer: func.TimerRequest) -> None:
    """Record a run that takes longer than the interval of the test."""
    _record(function="tick", past_due=timer.past_due)
    time.sleep(1.2)
    _record(function="tick", done=True)


@app.timer_trigger(schedule="%NIGHTLY%", arg_name="timer")
def nightly(timer: func.TimerRequest) -> None:
    """Record a run of a timer whose schedule is monitored."""
    _record(function="nightly", past_due=timer.past_due, status=timer.schedule_status)  # type: ignore[attr-defined]  # absent from the abstract class


@app.timer_trigger(schedule="0 0 4 1 1 *", arg_name="timer", run_on_startup=True)
@app.retry(strategy="fixed_delay", max_retry_count="2", delay_interval="00:00:00")
def at_start(timer: func.TimerRequest, context: func.Context) -> None:
    """Fail twice and then succeed, at start."""
    attempt = context.retry_context.retry_count
    _record(function="at_start", past_due=timer.past_due, retry=attempt)
    if attempt < 2:
        raise RuntimeError("not yet")
