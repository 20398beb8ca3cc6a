"""Draws the pictures of `virtual_cell.md`: ``python docs/virtual_cell_pictures.py``."""

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

from sim.camera_settings import CameraSettings
from sim.cell import CellState, VirtualCell
from sim.cell_settings import CellSettings
from sim.projector import Prepared, Projector
from sim.voxels import label_volume

FOLDER = Path(__file__).parent / "virtual_cell"
CURRENT_MA = 0.15 * np.pi / 4 * 0.02**2
CELL = CellSettings(
    pellet_diameter_mm=0.2,
    pellet_thickness_mm=0.06,
    lithium_thickness_mm=0.05,
    half_cycle_charge_c=CURRENT_MA * 1e-3 * 180,
)
CAMERA = CameraSettings(num_columns=320, num_rows=224)
LABELS = {1: "1", 2: "1.5", 3: "2", 5: "3", 12: "6.5", 29: "15"}


def states() -> dict[int, CellState]:
    """Return the cell's state after some half-cycles, 0 among them."""
    cell = VirtualCell(CELL, seed=11)
    kept = {0: cell.state()}
    for half_cycle in range(1, 30):
        cell.advance(180.0, CURRENT_MA if half_cycle % 2 else -CURRENT_MA)
        if half_cycle in LABELS:
            kept[half_cycle] = cell.state()
    return kept


def density(projector: Projector, prepared: Prepared) -> np.ndarray:
    """Return the attenuation of each voxel relative to the electrolyte, z, y, x."""
    lattice = projector.lattice
    ratio = CELL.lithium_attenuation_per_cm / CELL.electrolyte_attenuation_per_cm
    missing = projector.shaper.missing(prepared.shape, prepared.voxels, ratio)
    intact = np.outer(lattice.disc_rows, lattice.disc)
    return (intact - missing).reshape(-1, lattice.width, lattice.width)


def strip(pictures: list[np.ndarray], name: str) -> None:
    """Save pictures side by side."""
    gap = np.full((pictures[0].shape[0], 4), 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    Image.fromarray(np.concatenate(parts, axis=1)).save(FOLDER / name, optimize=True)


def grey(image: np.ndarray) -> np.ndarray:
    """Return an image as 32 grey levels, which compress well."""
    return ((np.clip(image / 1.1, 0, 1) * 31).astype(np.uint8) * 8).astype(np.uint8)


def main() -> None:
    """Draw everything."""
    FOLDER.mkdir(exist_ok=True)
    projector = Projector(CELL, CAMERA, seed=11)
    depth = projector.lattice.depth_um
    near, middle = np.argmin(abs(depth - 55)), np.argmin(abs(depth - 30))
    tops, middles, sides, maps, widths = [], [], [], [], {}
    shades = np.array([0, 215, 96, 32, 160], np.uint8)
    for half_cycles, state in states().items():
        prepared = projector.prepare(state)
        volume = density(projector, prepared)
        row = volume.shape[1] // 2
        tops.append(grey(volume[near]))
        middles.append(grey(volume[middle]))
        sides.append(grey(volume[:, row]))
        maps.append(shades[label_volume(prepared.shape, prepared.voxels)[:, row]])
        widths[half_cycles] = prepared.totals.width_volume_um3
        if half_cycles == 5:
            frame = projector.frame(
                prepared,
                angle_deg=20.0,
                shutter_open=True,
                ring_current_ma=300.0,
                exposure_time_s=0.19,
                time_s=0.0,
                frame_index=1,
            )
            low, high = np.percentile(frame, [0.5, 99.5])
            strip([grey(1.1 * (frame - low) / (high - low))], "projection.png")
    strip(tops, "near_cathode.png")
    strip(middles, "middle.png")
    strip(sides, "side.png")
    strip(maps, "labels.png")

    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    edges = np.arange(0, 12.05, 0.1)
    for half_cycles, label in LABELS.items():
        volume = widths[half_cycles]
        axes[0].stairs(volume / volume.sum(), edges, label=label)
    axes[0].set(xlim=(0, 6), xlabel="crack width (µm)", ylabel="part of the volume")
    axes[0].legend(title="label", fontsize=7)
    cell = VirtualCell(CELL, seed=11)
    times, voltages = [], []
    for index in range(30):
        current = CURRENT_MA if index % 2 == 0 else -CURRENT_MA
        for _ in range(180):
            cell.advance(1.0, current)
            times.append(cell.time_s / 60)
            voltages.append(1e3 * cell.measure_voltage_v(current))
    axes[1].plot(times, voltages, linewidth=0.6)
    axes[1].set(xlabel="time (min)", ylabel="voltage (mV)")
    figure.savefig(FOLDER / "widths_and_voltage.png", dpi=80)


if __name__ == "__main__":
    main()
