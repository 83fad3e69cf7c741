"""The users of a version: tasks, counted until they end."""

from __future__ import annotations

import asyncio

from fluoroscope_server.serving.users import Users


def test_a_task_is_a_user_until_it_ends() -> None:
    async def main() -> None:
        users, go = Users(), asyncio.Event()

        async def use() -> None:
            users.add_current()
            users.add_current()
            await go.wait()

        tasks = [asyncio.ensure_future(use()) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(users) == 3
        gone = asyncio.ensure_future(users.gone())
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        await asyncio.sleep(0)
        assert (len(users), gone.done()) == (2, False)
        go.set()
        await asyncio.wait_for(gone, 60)
        assert len(users) == 0
        await users.gone()

    asyncio.run(main())


def test_one_use_in_a_task_of_many() -> None:
    async def main() -> None:
        users = Users()
        with users.one():
            gone = asyncio.ensure_future(users.gone())
            await asyncio.sleep(0)
            assert (len(users), gone.done()) == (1, False)
        await asyncio.wait_for(gone, 60)
        assert len(users) == 0

    asyncio.run(main())


def test_there_is_no_user_without_a_task() -> None:
    users = Users()
    users.add_current()
    assert len(users) == 0
