"""Starts one Databricks run per event the obvious way: the baseline that Tidegate is measured against.

It imports the SDK at the top, builds the client at import, calls `run_now` once per delivery,
and has no ledger, no token and no memory.
"""

import json
import os

import azure.functions as func
from databricks.sdk import WorkspaceClient

app = func.FunctionApp()
workspace = WorkspaceClient()


@app.queue_trigger(arg_name="message", queue_name="naive", connection="TIDEGATE_STORAGE")
def start_run(message: func.QueueMessage) -> None:
    """Start a run for the blob that the event names."""
    event = json.loads(message.get_body())
    workspace.jobs.run_now(int(os.environ["NAIVE_JOB_ID"]), job_parameters={"url": event["data"]["url"]})
