"""Asks the local cloud's Functions whether they can work, and words what they lack."""

import json
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from local.supervisor.settings import CloudSettings

__all__ = ["health_lines", "problems_of"]

_TIMEOUT_S = 20.0  # a cold worker imports its clients for the first answer
_UNKNOWN = "functions"  # in place of a problem's name: the Functions did not say how they are
_LEDGER = "ledger"  # the problem's name in the answer: storage does not answer


def problems_of(settings: CloudSettings) -> list[tuple[str, str]]:
    """Return each problem's name and sentence; none if the Functions are well."""
    request = Request(  # noqa: S310 - http on loopback, from our own settings
        f"{settings.url('functions')}/api/health/details", headers={"x-functions-key": settings.function_key}
    )
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310 - likewise
            answer = response.read()
    except HTTPError as error:
        answer = error.read()
    except OSError as error:
        return [(_UNKNOWN, f"no answer about their health: {error}")]
    try:
        document = json.loads(answer)
        if "details" not in document and "error" in document:  # refused in words, as when app roles are required
            return [(_UNKNOWN, f"no answer about their health: {document['error']}")]
        details = document["details"]
        return [(str(problem["name"]), str(problem["problem"])) for problem in details]
    except (ValueError, KeyError, TypeError):
        return [(_UNKNOWN, "no answer about their health; see `tidegate logs functions_host`")]


def health_lines(problems: list[tuple[str, str]]) -> list[str]:
    """Return what to tell a person about the problems, with the next step.

    >>> health_lines([])
    []
    >>> health_lines([("job:scoring", "no job 'tidegate-local-scoring'")])
    ["The Functions start nothing yet: no job 'tidegate-local-scoring'. Deploy with `.venv/bin/tidegate deploy`."]
    """
    if not problems:
        return []
    if all(name.startswith("job:") for name, _ in problems):
        lacks = "; ".join(text for _, text in problems)
        return [f"The Functions start nothing yet: {lacks}. Deploy with `.venv/bin/tidegate deploy`."]
    names = {name for name, _ in problems}
    texts = [f"  {text}" for _, text in problems]
    if names == {_UNKNOWN}:
        return ["Whether the Functions can work is not known:", *texts]
    if names == {_LEDGER}:
        return ["The Functions start nothing, what arrives waits:", *texts, "They go on by themselves when it answers."]
    return [
        "The Functions start nothing, what arrives waits:",
        *texts,
        "Mend that, then `make down` and `make up`.",
    ]
