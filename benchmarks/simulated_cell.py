"""How long the virtual cell takes: preparation of a state, frames per second.

``python benchmarks/simulated_cell.py`` takes the dry run's cell, ``--full`` the
experiment's: 2560 x 2160 pixels, 2401 angles, some 10 GB of disk, ten minutes a
state. One thread; CPU and wall time, peak memory.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from sim.camera_settings import CameraSettings
from sim.cell import CellState, crack_volume_um3, lithium_in_cracks_um3
from sim.cell_settings import CellSettings
from sim.projector import Projector

DRY_RUN = (
    CellSettings(
        pellet_diameter_mm=0.2,
        pellet_thickness_mm=0.06,
        lithium_thickness_mm=0.05,
        half_cycle_charge_c=8.482e-6,
    ),
    CameraSettings(num_columns=320, num_rows=224),
)
FULL = (CellSettings(), CameraSettings())


def state_after(half_cycles: int, cell: CellSettings) -> CellState:
    return CellState(
        seed=7,
        half_cycles=float(half_cycles),
        directions=tuple((-1) ** index for index in range(half_cycles)),
        gross_charge_c=half_cycles * cell.half_cycle_charge_c,
    )


def report(text: str, wall_s: float, cpu_s: float) -> None:
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    wall, cpu = time.perf_counter() - wall_s, time.process_time() - cpu_s
    print(f"{text}: {wall:.2f} s wall, {cpu:.2f} s CPU, peak {peak_gb:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the experiment's size")
    parser.add_argument("--half-cycles", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--directory", type=Path, help="where projections are kept")
    options = parser.parse_args()
    cell, camera = FULL if options.full else DRY_RUN
    Projector.warm_up()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        projector = Projector(cell, camera, seed=7, directory=Path(directory))
        for half_cycles in options.half_cycles:
            start = time.perf_counter(), time.process_time()
            prepared = projector.prepare(state_after(half_cycles, cell))
            report(f"prepare after {half_cycles} half-cycles", *start)
            law = crack_volume_um3(cell, half_cycles)
            lithium = lithium_in_cracks_um3(cell, prepared.state)
            totals = prepared.totals
            print(
                f"  over the law's: cracks {totals.crack_volume_um3 / law:.4f}, "
                f"lithium in them {totals.filled_volume_um3 / lithium:.4f}"
            )
            # The first frame maps pages and compiles what only large cells need.
            for count in (1, options.frames):
                start = time.perf_counter(), time.process_time()
                for index in range(count):
                    projector.frame(
                        prepared,
                        angle_deg=10 + 0.075 * (index + 0.5),
                        shutter_open=True,
                        ring_current_ma=camera.nominal_ring_current_ma,
                        exposure_time_s=0.19,
                        time_s=0.2 * index,
                        frame_index=index,
                    )
                report(f"  {count} frames", *start)


if __name__ == "__main__":
    main()
