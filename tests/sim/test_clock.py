"""The simulated clock: known factor, holds, and sleepers."""

import asyncio
import math

import pytest

from sim.clock import Clock


class Wall:
    """A wall clock moved by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def wall() -> Wall:
    return Wall()


def test_runs_factor_times_faster_than_the_wall(wall: Wall) -> None:
    clock = Clock(60.0, start_s=1000.0, wall_s=wall)
    wall.now_s = 2.0
    assert clock.now() == 1120.0


def test_new_factor_does_not_jump(wall: Wall) -> None:
    clock = Clock(10.0, start_s=0.0, wall_s=wall)
    wall.now_s = 3.0
    clock.factor = 2.0
    assert clock.now() == 30.0
    wall.now_s = 4.0
    assert clock.now() == 32.0


def test_held_clock_stands_at_its_limit_and_goes_on_from_there(wall: Wall) -> None:
    clock = Clock(100.0, start_s=0.0, wall_s=wall)
    clock.set_limit(50.0)
    wall.now_s = 10.0
    assert clock.now() == 50.0
    clock.set_limit(math.inf)
    assert clock.now() == 50.0  # the time it was held is lost, not caught up
    wall.now_s = 10.1
    assert clock.now() == pytest.approx(60.0)


def test_limit_in_the_past_holds_without_going_back(wall: Wall) -> None:
    clock = Clock(1.0, start_s=0.0, wall_s=wall)
    wall.now_s = 5.0
    assert clock.now() == 5.0
    clock.set_limit(3.0)
    wall.now_s = 6.0
    assert clock.now() == 5.0


@pytest.mark.parametrize("factor", [0.0, -1.0, 1e5, math.nan])
def test_refuses_an_impossible_factor(factor: float) -> None:
    with pytest.raises(ValueError, match="clock factor"):
        Clock(factor)


def test_sleeper_beyond_the_limit_wakes_when_it_is_raised() -> None:
    async def scenario() -> tuple[bool, float]:
        clock = Clock(1000.0, start_s=0.0)
        clock.set_limit(10.0)
        sleeper = asyncio.create_task(clock.sleep_until(20.0))
        await asyncio.sleep(0.05)  # 50 simulated seconds, were it not held
        woke_early = sleeper.done()
        clock.set_limit(math.inf)
        await asyncio.wait_for(sleeper, 5)
        return woke_early, clock.now()

    woke_early, now_s = asyncio.run(scenario())
    assert not woke_early
    assert now_s >= 20.0


def test_sleeps_of_many_end_in_order_of_their_times() -> None:
    async def scenario() -> list[int]:
        clock = Clock(100.0, start_s=0.0)
        ended: list[int] = []

        async def sleeper(number: int) -> None:
            await clock.sleep_until(2.0 * number)
            ended.append(number)

        await asyncio.gather(*(sleeper(n) for n in (3, 1, 2)))
        return ended

    assert asyncio.run(scenario()) == [1, 2, 3]
