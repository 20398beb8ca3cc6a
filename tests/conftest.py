"""What every room's tests share: loopback EPICS, the simulated beamline, an RE."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from hypothesis import settings

from sim.beamline import loopback_environment

# A change is judged by the change: the default suite draws the same examples every
# time. `make slow` searches with new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile("same")

# pyepics reads it once, when something first imports ophyd; so the ports of both
# servers a session may run are chosen now.
FIRST, SECOND = loopback_environment(), loopback_environment()
SECOND["EPICS_CAS_BEACON_PORT"] = FIRST["EPICS_CAS_BEACON_PORT"]
os.environ.update(FIRST)
os.environ["EPICS_CA_ADDR_LIST"] = " ".join(
    f"127.0.0.1:{environment['EPICS_CAS_SERVER_PORT']}"
    for environment in (FIRST, SECOND)
)


class Docs(list[tuple[str, dict[str, Any]]]):
    """Documents in order of arrival."""

    __hash__ = object.__hash__  # a subscriber must have one; lists have none

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


@contextmanager
def run_engine(docs: Docs) -> Iterator[Any]:
    """Give a RunEngine with a loop of its own whose documents go to `docs`."""
    import asyncio

    from bluesky import RunEngine

    loop = asyncio.new_event_loop()
    engine = RunEngine({}, loop=loop, call_returns_result=True, context_managers=[])
    engine.subscribe(docs)
    try:
        yield engine
    finally:
        if engine.state not in ("idle", "panicked"):
            engine.halt()
        loop.call_soon_threadsafe(loop.stop)
        engine._th.join(10)
        loop.close()


@pytest.fixture
def RE(docs: Docs) -> Iterator[Any]:  # noqa: N802 - the name everybody knows
    """A RunEngine with a loop of its own whose documents go to `docs`."""
    with run_engine(docs) as engine:
        yield engine


@pytest.fixture(scope="module")
def recorded() -> Iterator[Any]:
    """Run plans once for the tests of a module: ``recorded(plan) -> Docs``."""
    with ExitStack() as stack:

        def record(plan: Any) -> Docs:
            docs = Docs()
            engine = stack.enter_context(run_engine(docs))
            assert engine(plan).exit_status == "success"
            return docs

        yield record


@pytest.fixture(scope="session")
def simulation_settings() -> Any:
    """A small, fast beamline with a cell that neither cracks nor shorts."""
    from sim.settings import SimulationSettings

    return SimulationSettings.model_validate(
        {
            "clock_factor": 20.0,
            "cell": {
                "pellet_diameter_mm": 0.1,
                "pellet_thickness_mm": 0.03,
                "lithium_thickness_mm": 0.02,
                "half_cycle_charge_c": 1.178e-6,
                "cracks": {"enabled": False},
                "short": {"kind": "none"},
            },
            "camera": {"num_columns": 160, "num_rows": 112},
        }
    )


@pytest.fixture(scope="session")
def simulated_beamline(
    simulation_settings: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """The simulated beamline's process, shared by the whole session."""
    from sim.beamline import SimulatedBeamline

    directory = tmp_path_factory.mktemp("simulation")
    with SimulatedBeamline.start(
        simulation_settings, directory, environment=FIRST
    ) as simulated:
        yield simulated


@pytest.fixture(scope="session")
def second_environment() -> dict[str, str]:
    """Environment of a second server, for tests that kill or spoil their own.

    It needs another prefix: this session's clients look on both.
    """
    return dict(SECOND)


@pytest.fixture(scope="session")
def beamline(simulated_beamline: Any) -> Any:
    """The devices of the simulated beamline, connected."""
    from devices.beamline import connect_beamline

    return connect_beamline(simulated_beamline.pvs, timeout_s=20)


@pytest.fixture
def fault(simulated_beamline: Any, beamline: Any) -> Iterator[Any]:
    """Inject faults of the simulated beamline: ``fault("BEAM_DUMP", 1)``."""
    import epics

    injected: dict[str, Any] = {}

    def inject(name: str, value: int) -> None:
        if name not in injected:
            injected[name] = epics.PV(f"SIM:FAULT:{name}")
            injected[name].wait_for_connection(5)
        injected[name].put(value, wait=True, timeout=10)

    yield inject
    for name in injected:
        inject(name, 0)
