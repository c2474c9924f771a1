"""Says of a dead letter, on a person's word, that it needs nobody any more; removes nothing."""

from functions.core.access import Actor
from functions.core.dismissals import Dismissed, parse_dismissal_request
from functions.services.acted import Acted
from functions.services.dead_letters import read_letter
from functions.services.plane import ControlPlane

__all__ = ["dismiss"]


def dismiss(plane: ControlPlane, body: bytes, actor: Actor) -> tuple[str, Acted]:
    """Have the dead letter that a body names wait for nobody any more, and return its name with what was done.

    The first dismissal stays: who repeats it is told when and why it was. A replay is possible all the same. What lies
    among the dead letters without being one can be dismissed too: it is listed with them.

    Raises:
        InvalidRequestError: The body is wrong.
        NotFoundError: There is no such dead letter.
        IllegalTransitionError: The letter has no room for it.
        StorageUnavailableError: The letter was changed meanwhile, or storage did not answer.
    """
    request = parse_dismissal_request(body, account=plane.account)
    letter = read_letter(plane, request.name)
    dismissed = Dismissed(at=plane.clock.now(), by=str(actor), reason=request.reason)
    # A crash behind this line leaves a letter that is dismissed, and a repeat says so.
    before = plane.quarantine.dismiss(request.name, dismissed, version=letter.version)
    if before.dismissed is not None:
        return request.name, Acted(did_not=(f"dismissed it not again: {before.dismissed}",))
    if before.replayed is not None:
        at = f"{before.replayed.at:%Y-%m-%d %H:%M:%S} UTC"
        return request.name, Acted(did_not=(f"dismissed nothing: it was replayed at {at}, and waits for nobody",))
    with plane.telemetry.span(
        "operator", what="dismissed", dead_letter=request.name, by=dismissed.by, reason=dismissed.reason
    ):
        return request.name, Acted(did=("dismissed it: it waits for nobody any more",))
