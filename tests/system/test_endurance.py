"""Two hundred half-cycles in a row: what an orchestrator must not pile up.

``make endurance`` runs HALF_CYCLES of them (200) at high speed, and prints memory,
threads, open files and children of the orchestrator as they were along the way.
"""

import math
import os
import statistics
import threading
from contextlib import suppress
from dataclasses import astuple, dataclass

import psutil
import pytest
from rich.console import Console
from rich.table import Table

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(3600)]

HALF_CYCLES = int(os.environ.get("HALF_CYCLES", "200"))
WARM_AFTER = 10  # half-cycles, the issue's
GROWTH_MAX = 0.05  # of the memory, the issue's
SPAN = 10  # half-cycles over which memory is taken as one figure
POOL_MAX = (os.cpu_count() or 1) + 4  # asyncio's, which fills as it is used

CELL = {
    "pellet_diameter_mm": 0.1,
    "pellet_thickness_mm": 0.03,
    "lithium_thickness_mm": 0.02,
}
DENSITY_MA_CM2, HALF_CYCLE_S = 0.15, 20.0
CURRENT_MA = DENSITY_MA_CM2 * math.pi * (CELL["pellet_diameter_mm"] / 20) ** 2
SETTINGS = {
    "clock_factor": 20.0,
    "cell": {
        **CELL,
        "half_cycle_charge_c": 1e-3 * CURRENT_MA * HALF_CYCLE_S,
        "short": {"kind": "none"},
        "cracks": {"enabled": False},
    },
    "camera": {"num_columns": 96, "num_rows": 64, "flat_counts_per_s": 200_000},
    "stages": {"rotation_speed_deg_s": 120.0, "sample_speed_mm_s": 20.0},
}
EXPERIMENT = {
    "experiment": {"id": "endurance", "sample": "simulated"},
    "cell": CELL,
    "cycling": {
        "current_density_ma_cm2": DENSITY_MA_CM2,
        "half_cycle_duration_s": HALF_CYCLE_S,
        "num_half_cycles": HALF_CYCLES,
        "heartbeat_timeout_s": 5.0,
    },
    # The guard is not what is tried here: a busy machine must not look like a fault.
    "guard": {"stale_after_s": 60.0},
    "scan": {
        "num_projections": 24,
        "exposure_time_s": 0.15,
        "frame_period_s": 0.2,
        "pixel_size_um": 1.6,
        "num_darks": 2,
        "num_flats": 3,
        "sample_out_mm": 1.0,
        "return_velocity_deg_s": 120.0,
    },
    # So few angles do not tell the axis.
    "analysis": {"reconstruction": {"rotation_axis_px": 47.5}},
}


@dataclass(frozen=True)
class Sample:
    """What the orchestrator held when a half-cycle had ended."""

    half_cycle: int
    memory_mb: float
    threads: int
    files: int
    children: int
    worker_mb: float


def test_nothing_piles_up_over_two_hundred_half_cycles(new_bench, tmp_path):
    bench = new_bench(tmp_path, SETTINGS, EXPERIMENT)
    try:
        bench.start()
        samples = follow(bench)
        table(samples)
        assert bench.program.returncode == 0, bench.story()[-5000:]
        assert len(bench.tomograms()) == HALF_CYCLES + 1
        assert len(samples) >= 0.9 * HALF_CYCLES, "too few samples for a figure"
        check_flat([sample.memory_mb for sample in samples])
        # A retiring reader comes and goes: the least of a span is what stays.
        for name, more in (("threads", POOL_MAX), ("files", 0), ("children", 0)):
            counts = [getattr(sample, name) for sample in samples[WARM_AFTER:]]
            first, last = min(counts[:SPAN]), min(counts[-SPAN:])
            assert last <= first + more, f"{name} grew from {first} to {last}"
        assert left_behind(bench) == []
    finally:
        bench.close()


def follow(bench):
    """Return a sample for each half-cycle, until the program has ended."""
    program = psutil.Process(bench.program.pid)
    samples, seen = [], 0
    while bench.program.poll() is None:
        threading.Event().wait(0.2)
        half_cycles = bench.layout.directory / "electrochemistry"
        number = len(list(half_cycles.glob("*.csv"))) if half_cycles.exists() else 0
        if number > seen:
            seen = number
            with suppress(psutil.NoSuchProcess):
                samples.append(look(program, number))
                if len(samples) % 20 == 1:
                    print(samples[-1], flush=True)
    return samples


def look(program, half_cycle):
    staying, worker_mb = 0, []
    for child in program.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            command = " ".join(child.cmdline())
            # One report at a time is written, and a long one nearly without a break.
            staying += " report " not in command
            if "spawn_main" in command:
                worker_mb.append(child.memory_info().rss / 1e6)
    return Sample(
        half_cycle,
        program.memory_info().rss / 1e6,
        program.num_threads(),
        program.num_fds(),
        staying,
        max(worker_mb, default=0.0),
    )


def table(samples):
    table = Table(
        "half-cycle", "memory MB", "threads", "files", "children", "worker MB"
    )
    for sample in [*samples[:: max(len(samples) // 20, 1)], *samples[-1:]]:
        table.add_row(*(f"{value:.0f}" for value in astuple(sample)))
    Console(width=100).print(table)


def left_behind(bench):
    """Return the processes that the program started and left."""
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(bench.layout.directory) in " ".join(process.cmdline()):
                left.append(process.cmdline())
    return left


def check_flat(memory_mb):
    warm = statistics.median(memory_mb[WARM_AFTER : WARM_AFTER + SPAN])
    end = statistics.median(memory_mb[-SPAN:])
    assert end <= (1 + GROWTH_MAX) * warm, f"from {warm:.1f} to {end:.1f} MB"
