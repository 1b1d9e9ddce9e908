from __future__ import annotations

import asyncio

import pytest

from farebox_collector.errors import Unavailable
from farebox_collector.receiver.places import MAX_WAITING, MIN_PLACES, Places

MIB = 2**20


async def read(places: Places, seconds: float) -> str:
    try:
        async with places.one():
            await asyncio.sleep(seconds)
    except Unavailable as refused:
        return str(refused)
    return "read"


@pytest.mark.parametrize(("limit", "count"), [(64 * MIB, 16), (8 * MIB, 32), (4 * MIB, 64)], ids=["64", "8", "4"])
def test_the_smaller_the_messages_the_more_places_there_are(limit: int, count: int) -> None:
    assert Places(limit, 1.0).count == count


def test_a_message_that_takes_too_long_is_given_up_even_when_nobody_waits() -> None:
    answer = asyncio.run(read(Places(64 * MIB, 0.1), 5.0))

    assert answer == "the message came too slowly; send it again, or smaller ones"


def test_who_waits_gets_the_place_of_the_slowest() -> None:
    async def story() -> list[str]:
        places = Places(64 * MIB, 30.0)
        slow = [asyncio.ensure_future(read(places, 20.0)) for _ in range(MIN_PLACES)]
        await asyncio.sleep(0)
        newcomers = [asyncio.ensure_future(read(places, 0.01)) for _ in range(2)]
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*newcomers)
        cut = [call.result() for call in slow if call.done()]
        for call in slow:
            call.cancel()
        return [*answers, *cut]

    answers = asyncio.run(story())

    # Both may come in by one place: the first of them is done with it before the next one is cut.
    assert answers[:2] == ["read", "read"]
    assert answers[2:] in ([SLOW], [SLOW, SLOW])


SLOW = "the message came too slowly; send it again, or smaller ones"


def test_messages_that_come_in_time_wait_for_each_other() -> None:
    async def story() -> list[str]:
        places = Places(64 * MIB, 30.0)
        return await asyncio.gather(*(read(places, 0.05) for _ in range(5 * MIN_PLACES)))

    assert set(asyncio.run(story())) == {"read"}


def test_only_so_many_calls_wait() -> None:
    async def story() -> str:
        places = Places(64 * MIB, 30.0)
        others = [asyncio.ensure_future(read(places, 20.0)) for _ in range(MIN_PLACES + MAX_WAITING)]
        await asyncio.sleep(0)
        answer = await read(places, 0.0)
        for call in others:
            call.cancel()
        return answer

    assert asyncio.run(story()) == "too many messages are on their way; send the request again"


def test_calls_that_end_while_they_read_or_wait_leave_their_places_free() -> None:
    async def story() -> list[str]:
        places = Places(64 * MIB, 30.0)
        for _ in range(3):
            calls = [asyncio.ensure_future(read(places, 20.0)) for _ in range(2 * MIN_PLACES)]
            await asyncio.sleep(0.01)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        return await asyncio.gather(*(read(places, 0.0) for _ in range(MIN_PLACES)))

    assert asyncio.run(story()) == ["read"] * MIN_PLACES


def test_a_timeout_of_the_reader_itself_stays_what_it_is() -> None:
    async def story() -> None:
        async with Places(64 * MIB, 30.0).one():
            raise TimeoutError("not ours")

    with pytest.raises(TimeoutError, match="not ours"):
        asyncio.run(story())
