"""Takes each message and does nothing: what storage, host and worker leave to any Function on this machine."""

import azure.functions as func

app = func.FunctionApp()


@app.queue_trigger(arg_name="message", queue_name="idle", connection="TIDEGATE_STORAGE")
def take(message: func.QueueMessage) -> None:
    """Read the message, as every Function must."""
    message.get_body()
