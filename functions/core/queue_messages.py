"""Takes a queue message's content out of the wrapping in which its sender put it."""

import base64
import binascii

__all__ = ["unwrapped"]


def unwrapped(body: bytes) -> bytes:
    """Return the content of a message: Event Grid writes base64, a person at a command line does not.

    What is no text in base64 is returned as it came, so that nothing of it is lost: no JSON object is base64.

    >>> unwrapped(b"eyJpZCI6IDF9"), unwrapped(b'{"id": 1}'), unwrapped(b"no event"), unwrapped(b"//4A")
    (b'{"id": 1}', b'{"id": 1}', b'no event', b'//4A')
    """
    try:
        content = base64.b64decode(b"".join(body.split()), validate=True)
        content.decode()
    except (binascii.Error, UnicodeDecodeError):
        return body
    return content
