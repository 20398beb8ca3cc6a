"""What every room's tests share: loopback EPICS, the simulated beamline, an RE."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from sim.beamline import loopback_environment

# pyepics reads it once, when something first imports ophyd.
os.environ.update(loopback_environment())


class Docs(list[tuple[str, dict[str, Any]]]):
    """Documents in order of arrival."""

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        self.append((name, doc))

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the documents of one kind."""
        return [doc for kind, doc in self if kind == name]

    def stream(self, name: str) -> dict[str, Any]:
        """Return the only descriptor of a stream."""
        (descriptor,) = [d for d in self.of("descriptor") if d["name"] == name]
        return descriptor

    def events(self, stream: str) -> list[dict[str, Any]]:
        """Return the events of a stream, pages unpacked."""
        from event_model import unpack_event_page

        uids = {d["uid"] for d in self.of("descriptor") if d["name"] == stream}
        pages = [e for p in self.of("event_page") for e in unpack_event_page(p)]
        return [e for e in self.of("event") + pages if e["descriptor"] in uids]


@pytest.fixture
def docs() -> Docs:
    return Docs()


@pytest.fixture
def RE(docs: Docs) -> Iterator[Any]:  # noqa: N802 - the name everybody knows
    """A RunEngine with a loop of its own whose documents go to `docs`."""
    import asyncio

    from bluesky import RunEngine

    loop = asyncio.new_event_loop()
    engine = RunEngine({}, loop=loop, call_returns_result=True, context_managers=[])
    engine.subscribe(docs)
    yield engine
    if engine.state not in ("idle", "panicked"):
        engine.halt()
    loop.call_soon_threadsafe(loop.stop)
    engine._th.join(10)
    loop.close()


@pytest.fixture(scope="session")
def simulation_settings() -> Any:
    """A small, fast beamline: tests may not change it, only add their own."""
    from sim.settings import SimulationSettings

    return SimulationSettings(clock_factor=60.0)


@pytest.fixture(scope="session")
def simulated_beamline(
    simulation_settings: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """The simulated beamline's process, shared by the whole session."""
    from sim.beamline import SimulatedBeamline

    directory = tmp_path_factory.mktemp("simulation")
    environment = {k: v for k, v in os.environ.items() if k.startswith("EPICS_")}
    with SimulatedBeamline.start(
        simulation_settings, directory, environment=environment
    ) as simulated:
        yield simulated


@pytest.fixture(scope="session")
def beamline(simulated_beamline: Any) -> Any:
    """The devices of the simulated beamline, connected."""
    from devices.beamline import connect_beamline

    return connect_beamline(simulated_beamline.pvs, timeout_s=20)
