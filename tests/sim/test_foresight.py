"""The cell is prepared while the step runs, as the step will leave it."""

from collections.abc import Iterator
from typing import Any

import pytest

from devices.potentiostat_driver import EndReason, GalvanostaticStep
from sim.cell import CellState
from sim.cell_settings import CellSettings
from sim.clock import Clock
from sim.lattice import takes_minutes
from sim.memory import Memory
from sim.settings import SimulationSettings
from sim.world import World

CHARGE_C = 1e-5
CURRENT_MA = CHARGE_C / 100.0 * 1e3
SETTINGS = SimulationSettings.model_validate(
    {
        "clock_factor": 1.0,
        "cell": {
            "pellet_diameter_mm": 0.05,
            "pellet_thickness_mm": 0.02,
            "lithium_thickness_mm": 0.01,
            "half_cycle_charge_c": CHARGE_C,
            "cracks": {"enabled": False},
        },
        "camera": {"num_columns": 80, "num_rows": 56},
    }
)


class Asked:
    """What a world asks its darkroom to prepare."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: list[CellState] = []
        self.like: list[int | None] = []
        prepare = world.darkroom.prepare

        def spy(
            cell: int, state: CellState, time_s: float, *, like: int | None = None
        ) -> Any:
            self.states.append(state)
            self.like.append(like)
            return prepare(cell, state, time_s, like=like)

        monkeypatch.setattr(world.darkroom, "prepare", spy)


class Wall:
    """Time that the test lets pass."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def __call__(self) -> float:
        return self.time_s


@pytest.fixture(scope="module")
def wall() -> Wall:
    return Wall()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, wall: Wall) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("foresight")
    clock = Clock(1.0, wall_s=wall)
    world = World(SETTINGS, directory, clock, Memory(directory / "cell.json"))
    assert world.instrument.on_relay_close is None  # too small to be worth it
    world.instrument.on_relay_close = world.foresee
    yield world
    world.close()


def test_the_experiments_cell_is_worth_foresight_and_the_dry_runs_is_not() -> None:
    assert takes_minutes(CellSettings(), 0.8)
    small = CellSettings(pellet_diameter_mm=0.2, pellet_thickness_mm=0.06)
    assert not takes_minutes(small, 0.8)


@pytest.fixture
def asked(world: World, monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(world, monkeypatch)


def run(world: World, wall: Wall, step: GalvanostaticStep, seconds: float) -> None:
    world.instrument.arm(step)
    world.instrument.start()
    for _ in range(7):
        wall.time_s += seconds / 7
        world.instrument.poll()


def test_a_step_that_ends_as_asked_finds_its_cell_prepared(
    world: World, wall: Wall, asked: Asked
) -> None:
    run(world, wall, GalvanostaticStep(1, CURRENT_MA, 100.0), 101.0)
    foreseen, frozen = asked.states
    assert asked.like[0] is None
    assert asked.like[1] is not None
    assert foreseen.half_cycles == pytest.approx(1.0, abs=1e-9)
    assert frozen.half_cycles == pytest.approx(1.0, abs=1e-9)
    assert foreseen.time_s == pytest.approx(frozen.time_s, abs=1e-6)
    assert world.frozen.state is frozen
    world.frozen.prepared.result(60)


def test_a_step_that_ends_early_is_prepared_anew(
    world: World, wall: Wall, asked: Asked
) -> None:
    run(world, wall, GalvanostaticStep(2, -CURRENT_MA, 100.0), 50.0)
    world.instrument.open_relay(EndReason.STOPPED)
    assert asked.like == [None, None]
    assert asked.states[0].half_cycles == pytest.approx(2.0, abs=1e-9)
    assert asked.states[1].half_cycles == pytest.approx(1.5, abs=1e-9)
    world.frozen.prepared.result(60)


def test_frames_while_current_flows_show_the_cell_of_that_moment(
    world: World, wall: Wall, asked: Asked
) -> None:
    run(world, wall, GalvanostaticStep(3, -CURRENT_MA, 100.0), 20.0)
    world.begin_imaging()
    wall.time_s += 80.1
    world.instrument.poll()
    world.instrument.catch_up()
    foreseen, during, after = asked.states
    assert during.half_cycles == pytest.approx(1.7, abs=1e-9)
    assert after.half_cycles == pytest.approx(foreseen.half_cycles, abs=1e-9)
    assert asked.like[1] is None
    assert asked.like[2] is not None
    world.frozen.prepared.result(60)
