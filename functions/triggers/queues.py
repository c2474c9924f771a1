"""Receives from the queues: events that arrived, work to do, runs that completed, and what none could understand."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import azure.functions as func

from functions.adapters.work_queue import HandOffQueue
from functions.core.errors import AccessRefusedError, InvalidSettingsError, PermanentError
from functions.core.queue_messages import unwrapped
from functions.settings import Settings
from functions.wiring import control_plane

__all__ = ["queue_functions"]

_CONNECTION = "TIDEGATE_STORAGE"


def queue_functions(settings: Settings) -> func.Blueprint:
    """Return the functions of the three queues and of their poison queues."""
    blueprint = func.Blueprint()  # type: ignore[no-untyped-call] # untyped in azure-functions

    @blueprint.function_name("arrivals")
    @blueprint.queue_trigger(arg_name="message", queue_name=settings.arrivals_queue, connection=_CONNECTION)
    @blueprint.queue_output(arg_name="handoff", queue_name=settings.dispatch_queue, connection=_CONNECTION)
    def arrivals(message: func.QueueMessage, handoff: func.Out[str]) -> None:
        """Record one blob's event and start what it asks for."""
        from functions.services.arrive import arrive

        plane = control_plane()
        plane = replace(plane, queue=HandOffQueue(handoff, plane.queue))
        is_first_try = message.dequeue_count == 1
        _receive("arrivals", message, lambda body: arrive(plane, body, is_first_try=is_first_try))

    @blueprint.function_name("dispatch")
    @blueprint.queue_trigger(arg_name="message", queue_name=settings.dispatch_queue, connection=_CONNECTION)
    def dispatch(message: func.QueueMessage) -> None:
        """Do one piece of queued work."""
        from functions.services.dispatch import dispatch as do

        _receive("dispatch", message, lambda body: do(control_plane(), body))

    @blueprint.function_name("completions")
    @blueprint.queue_trigger(arg_name="message", queue_name=settings.completions_queue, connection=_CONNECTION)
    def completions(message: func.QueueMessage) -> None:
        """Record how a run says that it ended."""
        from functions.services.complete import complete

        _receive("completions", message, lambda body: complete(control_plane(), body))

    for queue, name in (
        ("arrivals", settings.arrivals_queue),
        ("dispatch", settings.dispatch_queue),
        ("completions", settings.completions_queue),
    ):
        _add_poison_function(blueprint, queue, f"{name}-poison")
    return blueprint


def _add_poison_function(blueprint: func.Blueprint, queue: str, poison_queue: str) -> None:
    @blueprint.function_name(f"{queue}_poison")
    @blueprint.queue_trigger(arg_name="message", queue_name=poison_queue, connection=_CONNECTION)
    def poison(message: func.QueueMessage) -> None:
        """Quarantine what the host gave up on."""
        _quarantine(queue, message)


def _receive(queue: str, message: func.QueueMessage, handle: Callable[[bytes], object]) -> None:
    """Handle a message; one that retrying cannot help is quarantined at once instead of failing time and again.

    host.json has the host pass messages on as they are: it would move one that is no base64 to the poison queue, and
    leave it there unseen.
    A missing role is not the message's fault, and a new one takes minutes to propagate: the host delivers it again.
    Nor is a setting that shows to be wrong when it is first used.
    """
    try:
        handle(unwrapped(message.get_body()))
    except (AccessRefusedError, InvalidSettingsError):
        raise
    except PermanentError:
        _quarantine(queue, message)


def _quarantine(queue: str, message: func.QueueMessage) -> None:
    from functions.services.quarantine import quarantine_message

    at = message.insertion_time or datetime.now(UTC)
    body = message.get_body()
    message_id = message.id or body.hex()[:64]
    quarantine_message(control_plane(), queue, message_id, unwrapped(body), at.astimezone(UTC))
