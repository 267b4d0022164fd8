"""A request's body, whatever its length was said to be."""

import asyncio

from starlette.requests import ClientDisconnect

from keras_cascade.serving.request_error import RequestError

DISCARD_SECONDS = 5.0


async def read_body(request, service, record):
    """Reads a body, and counts its bytes while they are held.

    Args:
        request: `starlette.requests.Request`.
        service: `TeacherService`.
        record: `RequestRecord` of the request.

    Returns:
        Bytes.

    Raises:
        RequestError: too long, too slow, or not as long as was said.
    """
    limits = service.limits
    parts = []
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                service.hold(len(part), record)
                parts.append(part)
    except TimeoutError:
        raise RequestError(
            408,
            f"Expected the whole body within {limits.body_seconds:g} s. "
            f"Received {record.bytes} bytes of it. Is 'content-length' right?",
        ) from None
    except ClientDisconnect:
        raise RequestError(
            400,
            f"Expected the whole body. Received {record.bytes} bytes of it. "
            "Is 'content-length' right?",
        ) from None
    except RequestError:
        parts.clear()
        await discard(request.receive, limits.max_request_bytes)
        raise
    return b"".join(parts)


async def discard(receive, most):
    """Reads on without keeping anything, so that a client hears the answer.

    A connection that is closed while its client still sends is reset, and
    the answer lost with it.

    Args:
        receive: ASGI callable.
        most: int, bytes after which the connection may be reset.
    """
    read = 0
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while read <= most:
                message = await receive()
                if not message.get("more_body", False):
                    return
                read += len(message.get("body", b""))
    except TimeoutError:
        return


def declared_size(headers):
    """The header `content-length` as int; 0 where there is none."""
    declared = headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit() and len(declared) < 19):
        raise RequestError(
            400,
            "Expected 'content-length' to be a whole number. Received: "
            f"{declared[:30]!r}.",
        )
    return int(declared)
