"""Faults planned as NAME@WHEN strike once, at their moment; others are refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.faults import FAULTS, parse_fault
from sim.settings import SimulationSettings


def test_reads_each_kind_of_moment() -> None:
    fault = parse_fault("beam_dump@scan:2+0.5")
    assert (fault.name, fault.kind, fault.number, fault.fraction) == (
        "beam_dump",
        "scan",
        2,
        0.5,
    )
    assert parse_fault("compliance@half_cycle:3").number == 3
    assert parse_fault("top_up@t=120").seconds == 120.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("beam_dumb@scan:2", "unknown; allowed: .*beam_dump"),
        ("beam_dump", "needs a moment"),
        ("beam_dump@", "needs a moment"),
        ("beam_dump@scan", "needs a moment"),
        ("beam_dump@scan:-1", "needs a moment"),
        ("beam_dump@scan:1+2", "needs a moment"),
        ("beam_dump@t=-5", "needs a moment"),
        ("beam_dump@t=5 s", "needs a moment"),
        ("@scan:1", "unknown"),
    ],
)
def test_refuses_what_names_no_fault_or_no_moment(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_fault(text)
    with pytest.raises(ValueError, match=reason):
        SimulationSettings(faults=(text,))


@given(st.text())
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    try:
        parse_fault(f"beam_dump@{text}")
    except ValueError as error:
        assert "\n" not in str(error)


def test_every_fault_is_in_the_table_of_the_docs() -> None:
    page = Path(__file__).parents[2] / "docs" / "simulation.md"
    text = page.read_text()
    missing = [name for name in FAULTS if f"`{name}`" not in text]
    assert not missing


def test_planned_fault_strikes_once_at_its_fraction_of_its_scan(
    tmp_path: Path,
) -> None:
    """Through the real records, without clients: half through scan 1, once."""
    import asyncio

    import h5py

    from sim.clock import Clock
    from sim.memory import Memory
    from sim.server import SimulatedIOC
    from sim.world import World

    settings = SimulationSettings.model_validate(
        {
            "clock_factor": 1000.0,
            "faults": ["dropped_frame@scan:1+0.5", "disk_full@scan:2"],
            "cell": {
                "pellet_diameter_mm": 0.05,
                "pellet_thickness_mm": 0.02,
                "lithium_thickness_mm": 0.01,
                "cracks": {"enabled": False},
                "short": {"kind": "none"},
            },
            "camera": {"num_columns": 80, "num_rows": 56},
        }
    )

    async def scans() -> list[list[int]]:
        clock = Clock(settings.clock_factor)
        world = World(settings, tmp_path, clock, Memory(tmp_path / "cell.json"))
        ioc = SimulatedIOC(world, "PLAN:")
        await ioc.begin()
        watch = asyncio.create_task(ioc.faults.run())
        found = []
        for name in ("0000_00", "0001_00", "0001_01", "0002_00"):
            found.append(await one_scan(ioc, tmp_path, f"scan_{name}_projections"))
        watch.cancel()
        world.close()
        return found

    async def one_scan(ioc: Any, directory: Path, stem: str) -> list[int]:
        camera, writer = ioc.camera.group, ioc.camera.plugin.group
        await writer.channel("EnableCallbacks").write("Enable")
        await camera.channel("AcquireTime").write(0.1)
        await camera.channel("ImageMode").write("Single")
        await camera.channel("Acquire").write("Acquire")
        await writer.channel("FilePath").write(f"{directory}/")
        await writer.channel("FileName").write(stem)
        await writer.channel("FileTemplate").write("%s%s.h5")
        await writer.channel("NumCapture").write(10)
        await writer.channel("Capture").write("Capture")
        await camera.channel("ArrayCounter").write(0)
        await camera.channel("ImageMode").write("Multiple")
        await camera.channel("NumImages").write(10)
        await camera.channel("Acquire").write("Acquire")
        await writer.channel("Capture").write("Done")
        with h5py.File(directory / f"{stem}.h5") as file:
            ids = file["entry/instrument/NDAttributes/NDArrayUniqueId"][()]
        return ids.tolist()

    whole, gap, retaken, full = asyncio.run(scans())
    remembered = Memory(tmp_path / "cell.json").struck_faults
    assert remembered == list(settings.faults)  # a restart plans them no more
    every = list(range(1, 11))
    assert whole == every
    assert gap == [1, 2, 3, 4, 5, 7, 8, 9, 10]  # lost when five of ten are taken
    assert retaken == every
    assert full == []
