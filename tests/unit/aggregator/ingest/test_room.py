"""The room bounds what waits, first come first served."""

import asyncio

from aggregator.ingest.room import Room


async def test_what_fits_enters_at_once() -> None:
    """And no more than that."""
    room = Room(10)
    assert await room.enter(6, timeout_seconds=0)
    assert await room.enter(4, timeout_seconds=0)
    assert not await room.enter(1, timeout_seconds=0.01)
    assert room.taken_bytes == 10


async def test_what_is_larger_than_the_room_enters_when_it_is_empty() -> None:
    """Else it could never be stored."""
    room = Room(10)
    assert await room.enter(20, timeout_seconds=0)
    assert not await room.enter(1, timeout_seconds=0.01)
    room.leave(20)
    assert await room.enter(1, timeout_seconds=0)
    assert not await room.enter(20, timeout_seconds=0.01)


async def test_who_waits_enters_in_order() -> None:
    """A small one does not overtake a large one for ever."""
    room = Room(10)
    assert await room.enter(10, timeout_seconds=0)
    large = asyncio.create_task(room.enter(8, timeout_seconds=5))
    small = asyncio.create_task(room.enter(2, timeout_seconds=5))
    await asyncio.sleep(0)
    room.leave(2)
    await asyncio.sleep(0)
    assert not small.done()
    room.leave(8)
    assert await large
    assert await small
    assert room.taken_bytes == 10


async def test_who_gives_up_leaves_nothing_behind() -> None:
    """Neither a timeout nor a cancelled call takes room."""
    room = Room(10)
    assert await room.enter(10, timeout_seconds=0)
    assert not await room.enter(5, timeout_seconds=0.01)
    gone = asyncio.create_task(room.enter(5, timeout_seconds=5))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    room.leave(10)
    assert room.taken_bytes == 0
    assert await room.enter(10, timeout_seconds=0)


async def test_who_is_cancelled_as_room_is_given_hands_it_on() -> None:
    """The moment between is not lost."""
    room = Room(10)
    assert await room.enter(10, timeout_seconds=0)
    waiter = asyncio.create_task(room.enter(5, timeout_seconds=5))
    await asyncio.sleep(0)
    room.leave(10)
    waiter.cancel()
    await asyncio.wait([waiter])
    assert room.taken_bytes in {0, 5}
    if waiter.cancelled():
        assert room.taken_bytes == 0


async def test_what_turns_out_larger_is_counted_and_others_wait() -> None:
    """It is inside already: to make it wait would only hold its memory for longer."""
    room = Room(10)
    assert await room.enter(6, timeout_seconds=0)
    room.add(8)
    assert room.taken_bytes == 14
    assert not await room.enter(1, timeout_seconds=0.01)
    room.leave(14)
    assert await room.enter(1, timeout_seconds=0)
