"""What measuring a tomogram costs, step by step and whole.

``python benchmarks/measurement.py [--side 256]`` runs each step on a cracked crop
beside what other packages offer for it, in one process and on as many threads as numba
has; the ratio is ours to theirs in voxels (or points) per CPU-second. Packages that
cannot be imported (porespy, cc3d, edt, scikit-image) are left out and named.

``python benchmarks/measurement.py --streaming [--shape 900 2560 2560]`` measures a
whole synthetic tomogram of that shape, drawn slab by slab so that it never exists, and
tells time and memory above the start; the time of drawing is taken off.

``--json FILE`` writes the figures as JSON too.
"""

import argparse
import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from analysis.measure import measure_tomogram, warm_up
from analysis.measurement.components import Labeller
from analysis.measurement.crack_mask import smooth
from analysis.measurement.crack_volume import distance_squared, sum_rows
from analysis.measurement.crack_width import measure_widths
from analysis.measurement.deficit import CLEAR, INSIDE, NOT_RIM
from analysis.measurement.settings import MeasurementSettings

NOISE = 0.1
PSF_PX = 0.7
ENOUGH_S = 2.0


def cracked_crop(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the deficit of a cracked crop with noise, and its mask."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:side, :side, :side]
    cover = np.zeros((side,) * 3, np.float32)
    for _ in range(14):
        normal = rng.normal(size=3)
        normal[0] *= 0.3
        normal /= np.linalg.norm(normal)
        at = rng.uniform(0.1, 0.9, 3) * side
        away = normal[0] * (z - at[0]) + normal[1] * (y - at[1])
        away = away + normal[2] * (x - at[2])
        reach = np.sqrt((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2)
        width = rng.uniform(3.0, 5.5)
        sheet = np.clip(0.5 + width / 2 - np.abs(away), 0, 1)
        cover = np.maximum(cover, sheet * (reach < 0.35 * side))
    deficit = ndimage.gaussian_filter(cover, PSF_PX)
    deficit += NOISE * rng.standard_normal(deficit.shape).astype(np.float32)
    return deficit.astype(np.float32), cover > 0.5


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Return wall and CPU seconds of the best of up to four runs.

    The first may compile; what takes longer than `ENOUGH_S` after it is not repeated.
    """
    best = (np.inf, np.inf)
    for number in range(4):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        run = time.perf_counter() - wall, time.process_time() - cpu
        best = min(best, run, key=lambda pair: pair[1])
        if number > 0 and run[1] > ENOUGH_S:
            break
    return best


def imported(name: str) -> Any | None:
    """Return a module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def compare(side: int) -> list[dict[str, Any]]:
    """Time every step and its alternatives on one crop."""
    deficit, mask = cracked_crop(side)
    bits = mask.astype(np.uint8)
    smoothed = np.empty_like(deficit)
    smooth(deficit, 0, smoothed)
    distance = np.empty(bits.shape, np.uint8)
    region = np.full(bits.shape, INSIDE | CLEAR | NOT_RIM, np.uint8)
    points = np.argwhere(mask[16:-16, 16:-16, 16:-16]) + 16
    rng = np.random.default_rng(0)
    points = points[rng.choice(len(points), 20_000)].astype(np.int64)
    found = [np.empty(len(points), np.float32) for _ in range(2)]
    met = np.empty(len(points), np.uint8)
    normals = np.empty((len(points), 3), np.float32)

    def components(diagonal: bool) -> int:
        labeller = Labeller(bits.shape[1:], diagonal=diagonal)
        for start in range(0, side, 16):
            labeller.add(start, bits[start : start + 16])
        return len(labeller.finish().voxels)

    def volume() -> np.ndarray:
        distance_squared(bits, 6, distance)
        return sum_rows(deficit, smoothed, region, distance, bits, 0.5)

    voxels = float(bits.size)
    cube = np.ones((3, 3, 3))
    steps: list[tuple[str, float, str, Callable[[], Any]]] = [
        ("smooth", voxels, "ours", lambda: smooth(deficit, 0, smoothed)),
        ("smooth", voxels, "scipy gaussian_filter",
         lambda: ndimage.gaussian_filter(deficit, 0.7)),
        ("smooth", voxels, "scipy median_filter 3",
         lambda: ndimage.median_filter(deficit[: side // 4], 3)),
        ("components 26", voxels, "ours, streaming", lambda: components(True)),
        ("components 26", voxels, "scipy label", lambda: ndimage.label(bits, cube)),
        ("components 6", voxels, "ours, streaming", lambda: components(False)),
        ("components 6", voxels, "scipy label", lambda: ndimage.label(bits)),
        ("distance to mask", voxels, "ours, up to 6 voxels",
         lambda: distance_squared(bits, 6, distance)),
        ("distance to mask", voxels, "scipy distance_transform_edt",
         lambda: ndimage.distance_transform_edt(bits == 0)),
        ("volume", voxels, "ours, distance included",
         volume),
        ("width", float(len(points)), "ours (points)",
         lambda: measure_widths(
             smoothed, points, 12.5, found[0], found[1], met, normals)),
    ]  # fmt: skip
    if (skimage := imported("skimage.measure")) is not None:
        steps.append(
            ("components 26", voxels, "scikit-image label",
             lambda: skimage.label(bits, connectivity=3))
        )  # fmt: skip
    if (cc3d := imported("cc3d")) is not None:
        steps.append(
            ("components 26", voxels, "cc3d",
             lambda: cc3d.connected_components(bits, connectivity=26))
        )  # fmt: skip
    if (edt := imported("edt")) is not None:
        steps.append(("distance to mask", voxels, "edt", lambda: edt.edtsq(bits == 0)))
    if (porespy := imported("porespy")) is not None:
        steps.append(
            ("width", float(mask.sum()), "porespy local_thickness (mask voxels)",
             lambda: porespy.filters.local_thickness(mask))
        )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for step, number, name, function in sorted(steps, key=lambda one: one[0]):
        wall, cpu = timed(function)
        if "median" in name:
            number /= 4
        rows.append(
            {"step": step, "by": name, "wall_s": wall, "cpu_s": cpu,
             "per_cpu_s": number / cpu}
        )  # fmt: skip
    for row in rows:
        ours = next(
            r for r in rows if r["step"] == row["step"] and r["by"].startswith("ours")
        )
        row["ratio_of_ours"] = ours["per_cpu_s"] / row["per_cpu_s"]
    return rows


class DrawnVolume:
    """A cracked pellet between lithium, drawn row by row when it is read."""

    voxel_size_um = 0.8

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        nz, ny, nx = shape
        rng = np.random.default_rng(0)
        y, x = (np.arange(n, dtype=np.float32) - n // 2 for n in (ny, nx))
        radius = 0.485 * min(ny, nx)
        disc = np.clip(0.5 + radius - np.hypot(y[:, None], x[None, :]), 0, 1)
        plane = disc.copy()
        self.crack_area_px = 0.0
        for _ in range(40):
            angle, at = rng.uniform(0, np.pi), rng.uniform(-0.6, 0.6, 2) * radius
            across = np.cos(angle) * (y[:, None] - at[0]) + np.sin(angle) * (x - at[1])
            along = np.hypot(y[:, None] - at[0], x - at[1])
            crack = np.clip(0.5 + 2.0 - np.abs(across), 0, 1) * (along < 0.4 * radius)
            plane = np.minimum(plane, disc * (1 - crack))
        self.crack_area_px = float((disc - plane).sum(dtype=np.float64))
        self._plane = ndimage.gaussian_filter(plane, PSF_PX)
        self._noise = (NOISE * rng.standard_normal((3, ny, nx))).astype(np.float32)
        self.top, self.bottom = 0.1 * nz + 0.3, 0.9 * nz - 0.4
        self.seconds = 0.0
        self.reads = 0

    def slab(self, start: int, stop: int) -> np.ndarray:
        begun = time.perf_counter()
        out = np.empty((stop - start, *self.shape[1:]), np.float32)
        for z in range(start, stop):
            inside = np.clip(0.5 + min(z - self.top, self.bottom - z), 0, 1)
            np.multiply(self._plane, np.float32(inside), out=out[z - start])
            shifted = np.roll(self._noise[z % 3], 131 * z % 1009, axis=1)
            out[z - start] += shifted
        self.reads += stop - start
        self.seconds += time.perf_counter() - begun
        return out


def stream(shape: tuple[int, int, int]) -> dict[str, Any]:
    """Measure a drawn tomogram; return time, memory and what came out."""
    warm_up()
    volume = DrawnVolume(shape)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    result = measure_tomogram(volume, MeasurementSettings())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    row = result.row()
    truth_um3 = volume.crack_area_px * (volume.bottom - volume.top) * 0.8**3
    found = row["crack_volume_um3"]
    return {
        "shape": shape,
        "wall_s": wall - volume.seconds,
        "cpu_s": cpu - volume.seconds,
        "drawing_s": volume.seconds,
        "times_read": volume.reads / shape[0],
        "peak_above_start_gib": (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
        )
        / 2**20,
        "volume_to_truth": found / truth_um3 if isinstance(found, float) else None,
        "reason": row["reason"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--streaming", action="store_true")
    parser.add_argument(
        "--shape", type=int, nargs=3, default=(900, 2560, 2560), metavar=("Z", "Y", "X")
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures: dict[str, Any]
    if args.streaming:
        figures = {"streaming": stream(tuple(args.shape))}
        for name, value in figures["streaming"].items():
            print(f"{name:22s} {value}")
    else:
        rows = compare(args.side)
        figures = {"side": args.side, "steps": rows}
        print(f"{'step':18s} {'by':38s} {'M/CPU-s':>9s} {'ours / this':>12s}")
        for row in rows:
            speed, ratio = row["per_cpu_s"] / 1e6, row["ratio_of_ours"]
            print(f"{row['step']:18s} {row['by']:38s} {speed:9.2f} {ratio:12.2f}")
        wanted = ("skimage", "cc3d", "edt", "porespy")
        missing = [name for name in wanted if imported(name) is None]
        if missing:
            print(f"not installed here: {', '.join(missing)}")
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
