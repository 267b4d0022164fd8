"""MessageReader: how many messages are being read, and which are cut off."""

import asyncio

import grpc
import pytest

from keras_cascade.serving.grpc_reader import PATIENCE_SECONDS, MessageReader
from keras_cascade.serving.request_error import RequestError


class Call:
    """A call whose message arrives when a test says so."""

    def __init__(self):
        self.began = asyncio.Event()
        self.message = asyncio.get_running_loop().create_future()

    async def read(self):
        self.began.set()
        return await self.message


def test_no_more_messages_are_read_than_fit_into_the_total():
    async def run():
        reader = MessageReader(100, 250, 60)
        assert reader.slots == 2
        calls = [Call() for _ in range(3)]
        tasks = [asyncio.create_task(reader.read(call)) for call in calls]
        await calls[1].began.wait()
        assert not calls[2].began.is_set()
        calls[0].message.set_result(b"first")
        assert await tasks[0] == b"first"
        await calls[2].began.wait()
        for call in calls[1:]:
            call.message.set_result(b"later")
        assert await tasks[1] == await tasks[2] == b"later"

    asyncio.run(run())


def test_the_message_that_began_first_is_cut_off_for_another():
    async def run():
        loop = asyncio.get_running_loop()
        reader = MessageReader(100, 200, 60)
        stalled = [Call(), Call()]
        tasks = [asyncio.create_task(reader.read(call)) for call in stalled]
        await stalled[1].began.wait()
        good = Call()
        good.message.set_result(b"good")
        start = loop.time()
        assert await reader.read(good) == b"good"
        assert loop.time() - start >= PATIENCE_SECONDS
        with pytest.raises(RequestError, match="whole message") as raised:
            await tasks[0]
        assert raised.value.status == 429
        assert not tasks[1].done()  # the younger one goes on
        stalled[1].message.set_result(b"late")
        assert await tasks[1] == b"late"

    asyncio.run(run())


def test_messages_that_do_not_arrive():
    async def run():
        reader = MessageReader(100, 100, 0.01)
        with pytest.raises(RequestError, match=r"within 0\.01 s"):
            await reader.read(Call())
        none = Call()
        none.message.set_result(grpc.aio.EOF)
        with pytest.raises(RequestError, match="Received none"):
            await reader.read(none)
        gone = Call()
        gone.message.set_exception(asyncio.CancelledError())
        with pytest.raises(asyncio.CancelledError):
            await reader.read(gone)
        fine = Call()
        fine.message.set_result(b"fine")
        assert await reader.read(fine) == b"fine"  # every slot is free again

    asyncio.run(run())
