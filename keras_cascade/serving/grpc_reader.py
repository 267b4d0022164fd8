"""Reads gRPC requests after their authorization, with a bound on the total."""

import asyncio

import grpc

from keras_cascade.serving.request_error import RequestError

#: A message that took longer may be cut off for another one.
PATIENCE_SECONDS = 0.25


class MessageReader:
    """Reads messages, so many at a time that their sum is bounded.

    gRPC receives no more than some kilobytes of a message until it is read.
    A message's size is not known before, so each one that is being read
    counts as the largest. While as many as may be are being read, the one
    that began first is cut off for the next.

    Args:
        message_bytes: int, of the largest message.
        total_bytes: int, of all messages that are being read.
        seconds: float, timeout for one message.
    """

    def __init__(self, message_bytes, total_bytes, seconds):
        self.slots = max(1, total_bytes // message_bytes)
        self._seconds = seconds
        self._free = asyncio.Semaphore(self.slots)
        self._reading = {}  # `asyncio.Timeout` -> start, the oldest first

    async def read(self, context):
        """Reads the one message of a call.

        Args:
            context: `grpc.aio.ServicerContext`.

        Returns:
            Bytes.

        Raises:
            RequestError: no message, or one that does not arrive.
        """
        while self._free.locked():
            self._cut_off_the_oldest()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._free.acquire()
                break
            except TimeoutError:
                continue
        else:
            await self._free.acquire()
        try:
            async with asyncio.timeout(self._seconds) as timeout:
                self._reading[timeout] = asyncio.get_running_loop().time()
                message = await context.read()
        except TimeoutError:
            raise RequestError(
                429,
                f"Expected the whole message within {self._seconds:g} s, and "
                "sooner while others wait. Received a part of it.",
                1,
            ) from None
        finally:
            self._reading.pop(timeout, None)
            self._free.release()
        if message is grpc.aio.EOF:
            raise RequestError(400, "Expected one message. Received none.")
        return message

    def _cut_off_the_oldest(self):
        now = asyncio.get_running_loop().time()
        for timeout, since in self._reading.items():
            if now - since < PATIENCE_SECONDS:
                return
            if timeout.when() > now:
                timeout.reschedule(now)
                return
