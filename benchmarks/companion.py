"""What the phase-retrieved companion of a tomogram costs, and what it finds.

``python -m benchmarks.companion [--width 2560] [--angles 2400] [--voids 350]`` draws
the sinograms of a pellet between lithium with lens-shaped voids at both faces (their
number is per mm² of a face), with the fringes of a few millimetres of air, blur and
noise. Then both faces are retrieved, reconstructed and fitted as after a scan. Only the
rows that this reads are drawn: a taller detector adds none. Drawing is not timed.

The light is drawn by the transport of intensity, which holds for weak fringes only. So
everything absorbs and refracts twenty times less than at 22.3 keV: a perfectly flat
face of 2 mm would otherwise bend rays farther than the blur. The filter is as long.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import scipy.fft

from analysis.companion import make_companion
from analysis.measurement.body import Body
from analysis.measurement.grey_levels import LevelField
from analysis.measurement.interfaces import face_rows, interface_row, measure_interfaces
from analysis.measurement.void_optics import PLANCK_LIGHT_KEV_UM, lithium_delta
from analysis.normalise import PixelCounts
from analysis.settings import AnalysisSettings, PhaseSettings, ReconstructionSettings
from analysis.sinogram_store import SinogramStore

VOXEL_UM = 0.8
WEAKER = 20.0
ENERGY_KEV = 22.3 * WEAKER**0.5
DELTA_BETA = 221.0 * WEAKER**0.5
DISTANCE_MM = 2.0
SOLID_PER_PX, LITHIUM_PER_PX = 6.3e-4 / WEAKER, 0.076e-4 / WEAKER
PSF_PX = 0.9
NOISE_FRAC = 0.12
"""Noise of a voxel before the phase is retrieved, as a share of the contrast."""

THICKNESS_PX = 60
"""The pellet's; rows in its middle are drawn once and read never."""

ROWS_BESIDE = 96
SUB_ROWS = 5
PATCH_MARGIN_PX = 24
RIM_PX = 30.0


@dataclass(frozen=True)
class Lens:
    """A void: half an ellipsoid upon a face, in voxels from the axis."""

    y: float
    x: float
    radius: float
    height: float


def lenses(number: int, radius_px: float, seed: int) -> list[Lens]:
    """Return voids all over a face, thick and thin, clear of the rim."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        away = (radius_px - RIM_PX) * np.sqrt(rng.uniform())
        turn = rng.uniform(0, 2 * np.pi)
        radius, height = rng.uniform(9, 22), rng.uniform(2.5, 6.0)
        found.append(Lens(away * np.sin(turn), away * np.cos(turn), radius, height))
    return found


def chord(radius: float, x: np.ndarray) -> np.ndarray:
    return 2 * np.sqrt(np.clip(radius**2 - x**2, 0, None))


@numba.njit(cache=True)
def _draw_voids(
    at: np.ndarray, radius: np.ndarray, height: np.ndarray, face: float, out: int,
    lost: np.ndarray,
) -> None:  # fmt: skip
    """Add the voids' chords to the rows (row, x) around a face."""
    for void in range(len(at)):
        left, right = int(at[void] - radius[void]), int(at[void] + radius[void]) + 2
        for step in range(int(np.ceil(height[void])) * SUB_ROWS):
            above = (step + 0.5) / SUB_ROWS
            if above >= height[void]:
                continue
            square = radius[void] ** 2 * (1 - (above / height[void]) ** 2)
            row = int(np.floor(face + out * above + 0.5))
            for x in range(left, right):
                half = square - (x - at[void]) ** 2
                if half > 0:
                    lost[row, x] += 2 * np.sqrt(half) / SUB_ROWS


def _squared(shape: tuple[int, ...]) -> np.ndarray:
    """Return the squared angular frequency of a real transform, per um²."""
    z = 2 * np.pi * np.fft.fftfreq(shape[0], VOXEL_UM)[:, None]
    return z**2 + (2 * np.pi * np.fft.rfftfreq(shape[1], VOXEL_UM)) ** 2


class Drawing:
    """Frames of the rows around both faces."""

    def __init__(self, width: int, angles: int, voids_per_mm2: float) -> None:
        self.width, self.angles = width, angles
        self.radius = 0.485 * width
        self.top, self.bottom = ROWS_BESIDE + 0.3, ROWS_BESIDE + THICKNESS_PX - 0.4
        self.rows = 2 * ROWS_BESIDE + THICKNESS_PX
        area_mm2 = np.pi * (self.radius * VOXEL_UM * 1e-3) ** 2
        number = round(voids_per_mm2 * area_mm2)
        self.voids = [lenses(number, self.radius, seed) for seed in (1, 2)]
        self._arrays = [
            np.array([(v.y, v.x, v.radius, v.height) for v in some]).T
            for some in self.voids
        ]
        wavelength_um = PLANCK_LIGHT_KEV_UM / ENERGY_KEV
        beta = SOLID_PER_PX / VOXEL_UM * wavelength_um / 4 / np.pi
        self.solid_delta = DELTA_BETA * beta * VOXEL_UM
        self.lithium_delta = lithium_delta(ENERGY_KEV) * VOXEL_UM
        z = np.arange(self.rows)
        low = np.minimum(z + 0.5, self.bottom) - np.maximum(z - 0.5, self.top)
        solid = np.clip(low, 0, 1)[:, None]
        path = chord(self.radius, np.arange(width) - width // 2)
        depth = (SOLID_PER_PX * solid + LITHIUM_PER_PX * (1 - solid)) * path
        bent = self.solid_delta * solid + self.lithium_delta * (1 - solid)
        self._depth, self._bent = depth, self._transport(bent * path)
        self._light = np.exp(-depth) * (1 + self._bent)
        self._whole = self._blurred(self._light)
        rng = np.random.default_rng(0)
        # Of filtered back-projection: noise of a slice over that of a projection.
        sd = NOISE_FRAC * SOLID_PER_PX * np.sqrt(12 * angles) / np.pi
        self._noise = (sd * rng.standard_normal((16, *depth.shape))).astype(np.float32)

    def _filtered(self, image: np.ndarray, transfer: np.ndarray) -> np.ndarray:
        spectrum = np.asarray(scipy.fft.rfft2(image)) * transfer
        return np.asarray(scipy.fft.irfft2(spectrum, image.shape))

    def _transport(self, path: np.ndarray) -> np.ndarray:
        """Return the light that bends towards a place, as a share."""
        return self._filtered(path, -1e3 * DISTANCE_MM * _squared(path.shape))

    def _blurred(self, light: np.ndarray) -> np.ndarray:
        squared = _squared(light.shape)
        return self._filtered(light, np.exp(-0.5 * (PSF_PX * VOXEL_UM) ** 2 * squared))

    def frame(self, index: int) -> np.ndarray:
        """Return attenuation (row, x) at one angle."""
        turn = np.pi * index / self.angles
        shift = 1 + 131 * index % (self.width - 1)
        light = self._whole.copy()
        for face, voids, out in (
            (self.top, self._arrays[0], -1),
            (self.bottom, self._arrays[1], 1),
        ):
            first = round(face) - PATCH_MARGIN_PX
            lost = np.zeros((2 * PATCH_MARGIN_PX, self.width), np.float32)
            y, x, radius, height = voids
            at = x * np.cos(turn) + y * np.sin(turn) + self.width // 2
            _draw_voids(at, radius, height, face - first, out, lost)
            part = slice(first, first + len(lost))
            bent = self._bent[part] - self._transport(self.lithium_delta * lost)
            there = np.exp(LITHIUM_PER_PX * lost - self._depth[part]) * (1 + bent)
            light[part] += self._blurred(there - self._light[part])
        noise = np.roll(self._noise[index % len(self._noise)], shift, axis=1)
        return (noise - np.log(light)).astype(np.float32)

    def heights(self, face: int) -> np.ndarray:
        """Return the true thickness of the voids (y, x) at a face."""
        out = np.zeros((self.width, self.width), np.float32)
        for void in self.voids[face]:
            y, x = void.y + self.width // 2, void.x + self.width // 2
            reach = int(void.radius) + 1
            part = np.s_[
                int(y) - reach : int(y) + reach + 2, int(x) - reach : int(x) + reach + 2
            ]
            at_y, at_x = np.ogrid[part]
            level = 1 - ((at_y - y) ** 2 + (at_x - x) ** 2) / void.radius**2
            # Voids that overlap are drawn twice: so is their thickness.
            out[part] += void.height * np.sqrt(np.clip(level, 0, None))
        return out

    def body(self) -> Body:
        shape = (self.width, self.width)
        middle = (self.width // 2, self.width // 2)
        return Body(
            top=np.full(shape, self.top, np.float32),
            bottom=np.full(shape, self.bottom, np.float32),
            rim=np.full((self.rows, 720), self.radius, np.float32),
            centre=(float(middle[0]), float(middle[1])),
            edge_sigma_px=PSF_PX,
        )


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def run(width: int, angles: int, voids_per_mm2: float, folder: Path) -> dict[str, Any]:
    """Draw, make the companion, fit it; return what each took."""
    drawing = Drawing(width, angles, voids_per_mm2)
    settings = AnalysisSettings(
        reconstruction=ReconstructionSettings(
            interface_phase=PhaseSettings(
                delta_beta=DELTA_BETA, distance_mm=DISTANCE_MM, energy_kev=ENERGY_KEV
            )
        )
    )
    reach_px = settings.measurement.void_reach_um / VOXEL_UM
    body = drawing.body()
    grid = np.full((1, 1, 1), SOLID_PER_PX, np.float32)
    levels = LevelField(grid, 64, 0.0, LITHIUM_PER_PX, 0.0)
    figures: dict[str, Any] = {
        "width": width,
        "angles": angles,
        "rows": [stop - start for start, stop in face_rows(body, reach_px)],
        "voids": [len(some) for some in drawing.voids],
    }
    with SinogramStore(
        angles, drawing.rows, width,
        directory=folder, memory_limit_bytes=0, in_memory=False,
    ) as store:  # fmt: skip
        for index in range(angles):
            store.put(index, drawing.frame(index))
        store.end()
        ingest: Any = SimpleNamespace(
            name="drawn", store=store, counts=PixelCounts(0, 0), frames_without_air=0
        )
        figures["peak_before_gib"] = peak_gib()
        wall, cpu = time.perf_counter(), time.process_time()
        faces = make_companion(
            ingest, np.linspace(0, 180, angles, endpoint=False), float(width // 2),
            folder / "drawn.h5", settings,
            pixel_size_um=VOXEL_UM, body=body, levels=levels,
        )  # fmt: skip
        figures["make_wall_s"] = time.perf_counter() - wall
        figures["make_cpu_s"] = time.process_time() - cpu
        figures["make_peak_gib"] = peak_gib()
    with faces:
        wall, cpu = time.perf_counter(), time.process_time()
        found = measure_interfaces(
            faces, body, faces.optics(LITHIUM_PER_PX),
            reach_um=settings.measurement.void_reach_um,
            slab_bytes=settings.measurement.slab_bytes,
        )  # fmt: skip
        figures["fit_wall_s"] = time.perf_counter() - wall
        figures["fit_cpu_s"] = time.process_time() - cpu
        figures["fit_peak_gib"] = peak_gib()
    row = interface_row(found, VOXEL_UM)
    for index, name in enumerate(("anode", "cathode")):
        one = getattr(found, name)
        if one.voids is None:
            figures[f"{name}_reason"] = one.reason
            continue
        seen = np.isfinite(one.voids.height_px)
        true = drawing.heights(index)
        counted = seen & (true > one.voids.floor_px)
        figures[f"{name}_lost_frac"] = row[f"{name}_contact_loss_frac"]
        figures[f"{name}_lost_sd_frac"] = row[f"{name}_contact_loss_sd_frac"]
        figures[f"{name}_lost_true_frac"] = float(counted.sum() / seen.sum())
        figures[f"{name}_thickness_um"] = row[f"{name}_void_thickness_um"]
        figures[f"{name}_thickness_true_um"] = float(true[counted].mean()) * VOXEL_UM
        figures[f"{name}_floor_um"] = row[f"{name}_void_floor_um"]
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=2560)
    parser.add_argument("--angles", type=int, default=2400)
    parser.add_argument("--voids", type=float, default=350.0, help="per mm² of a face")
    parser.add_argument("--directory", type=Path, help="for sinograms and companion")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    # Kernels are compiled, or loaded, on a small face.
    for width, angles in ((256, 60), (args.width, args.angles)):
        with tempfile.TemporaryDirectory(dir=args.directory) as folder:
            figures = run(width, angles, args.voids, Path(folder))
    for name, value in figures.items():
        print(f"{name:26s} {value}")
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
