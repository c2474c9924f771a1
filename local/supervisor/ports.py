"""Chooses the loopback ports of the local cloud: the remembered ones if they are free, else new ones."""

import errno
import os
import random
import socket
from collections.abc import Mapping

__all__ = ["PORT_NAMES", "PortTakenError", "choose_ports", "is_free", "wanted_ports"]

PORT_NAMES = (
    "functions", "workspace", "mlflow", "event_grid", "storage_proxy", "app_insights", "blob", "queue", "table",
)  # fmt: skip

# Below the ephemeral ranges of Linux (from 32768) and macOS (from 49152): the kernel gives none of these to an
# outgoing connection while the cloud is down, so a remembered port is usually still free.
_LOWEST, _HIGHEST = 20000, 32000


class PortTakenError(Exception):
    """A port that was asked for is in use by another program."""

    def __init__(self, name: str, port: int, origin: str) -> None:
        super().__init__(name, port, origin)
        self.name = name
        self.port = port
        self.origin = origin

    def __str__(self) -> str:
        return (
            f"port {self.port} for {self.name} (wanted by {self.origin}) is taken by another program; "
            "stop that program, ask for another port, or ask for none and a free one is chosen"
        )


def wanted_ports(port_base: int | None, environ: Mapping[str, str] = os.environ) -> dict[str, tuple[int, str]]:
    """Return the ports that a person asked for, each with where it was asked.

    `TIDEGATE_PORT_<NAME>` wins over a base, from which the ports follow one another.

    Raises:
        ValueError: A port is no number from 1024 to 65535.
    """
    wanted: dict[str, tuple[int, str]] = {}
    for offset, name in enumerate(PORT_NAMES):
        if port_base is not None:
            wanted[name] = (_valid(str(port_base + offset), "--port-base"), "--port-base")
        variable = f"TIDEGATE_PORT_{name.upper()}"
        if text := environ.get(variable):
            wanted[name] = (_valid(text, variable), variable)
    return wanted


def choose_ports(remembered: Mapping[str, int], wanted: Mapping[str, tuple[int, str]]) -> dict[str, int]:
    """Return a free port for each name.

    Raises:
        PortTakenError: A port that a person asked for is not free.
    """
    chosen: dict[str, int] = {}
    for name, (port, origin) in wanted.items():
        if port in chosen.values() or not is_free(port):
            raise PortTakenError(name, port, origin)
        chosen[name] = port
    for name in PORT_NAMES:
        if name in chosen:
            continue
        port = remembered.get(name, 0)
        if not port or port in chosen.values() or not is_free(port):
            port = _free_port(set(chosen.values()) | set(remembered.values()))
        chosen[name] = port
    return chosen


def is_free(port: int) -> bool:
    """Tell whether a service could listen on the loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections in TIME_WAIT do not matter
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True


def _free_port(avoid: set[int]) -> int:
    candidates = random.sample(range(_LOWEST, _HIGHEST), 500)
    for port in candidates:
        if port not in avoid and is_free(port):
            return port
    raise PortTakenError("any service", candidates[0], "a search for a free port")


def _valid(text: str, origin: str) -> int:
    if not text.isdigit() or not 1024 <= int(text) <= 65535:  # noqa: PLR2004 - the range of ports a user may bind
        raise ValueError(f"{origin}: {text!r} is no port from 1024 to 65535")
    return int(text)
