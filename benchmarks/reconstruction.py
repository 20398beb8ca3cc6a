"""Measures the reconstruction: engines, steps, and the chain at paper scale.

    python benchmarks/reconstruction.py                  engines and steps, ca. 3 min
    python benchmarks/reconstruction.py --streaming      the chain too, ca. 20 min more
    python benchmarks/reconstruction.py --keeping-up     the camera beside a tomogram

One process on one machine measures all that is compared. TomoPy and ducc0 take part
where they can be imported. Sizes are those of the paper, 2400 projections of 2560
columns, unless ``--width`` and ``--angles`` say otherwise; ``--rows`` shortens the
chain. Results are printed with their ratios and written as JSON.
"""

import argparse
import importlib
import importlib.util
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from analysis.distortion import Unwarp
from analysis.engines import engine
from analysis.ingest import ScanIngest
from analysis.normalise import FlatField
from analysis.phase import PhaseRetrieval
from analysis.pipeline import find_axis, reconstruct, refined_axis
from analysis.preview import PreviewStack, write_slices
from analysis.rings import (
    correct_response,
    remove_stripes,
    remove_stripes_by_sorting,
)
from analysis.settings import (
    DistortionSettings,
    PhaseSettings,
    ReconstructionSettings,
)
from analysis.sinogram_store import SinogramStore
from analysis.zingers import remove_zingers

ORACLE = Path(__file__).parents[1] / "tests" / "analysis" / "exact_fbp.py"
EXACT = Path(__file__).with_name("exact_slice.py")
KEEPING_UP = Path(__file__).with_name("keeping_up.py")
PAPER_WIDTH, PAPER_ANGLES, PAPER_ROWS = 2560, 2400, 2160
RUNS = 3
# Gaps as fractions of the half width: x, y, half length, turn; their width in pixels.
GAPS = (
    (0.64, -0.1, 0.12, 0.0, 4.0),
    (0.0, 0.0, 0.2, 0.35, 4.0),
    (0.1, -0.5, 0.16, 0.0, 3.0),
    (-0.08, 0.47, 0.12, 1.1, 3.0),
)


def timed(function: Callable[[], object], runs: int = RUNS) -> dict[str, float]:
    """Return the best wall time and the processor time of that run, in seconds."""
    best = (float("inf"), 0.0)
    for _ in range(runs):
        wall, processor = time.perf_counter(), time.process_time()
        function()
        best = min(best, (time.perf_counter() - wall, time.process_time() - processor))
    return {"wall_s": best[0], "cpu_s": best[1]}


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def load(path: Path):
    """Import a file that belongs to no installed package, by its own name.

    A process that is spawned finds it too, since it is given the same search path.
    """
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    return importlib.import_module(path.stem)


def gap_ellipses(width: int) -> tuple[tuple[float, ...], ...]:
    # An ellipse so long that its middle is as straight as a gap.
    return tuple(
        (x, y, gap_px / width, 4 * length, turn, -1.0)
        for x, y, length, turn, gap_px in GAPS
    )


def full_width_at_half_maximum(image: np.ndarray) -> list[float]:
    """Return the width of each gap, averaged over its middle, in pixels."""
    from scipy import ndimage

    half = image.shape[0] / 2
    across = np.linspace(-10, 10, 401)
    along = np.linspace(-0.02, 0.02, 41) * half
    widths = []
    for x, y, _, turn, _ in GAPS:
        c, s = np.cos(turn), np.sin(turn)
        at_x = x * half + across[None] * c - along[:, None] * s + image.shape[0] // 2
        at_y = y * half + across[None] * s + along[:, None] * c + image.shape[0] // 2
        profile = ndimage.map_coordinates(image, [at_y, at_x], order=3).mean(axis=0)
        ground = 0.5 * (profile[:80].mean() + profile[-80:].mean())
        level = 0.5 * (ground + profile[150:250].min())
        deep = np.flatnonzero(profile < level)
        first, last = deep[0], deep[-1]
        left = np.interp(level, profile[[first, first - 1]], across[[first, first - 1]])
        right = np.interp(level, profile[[last, last + 1]], across[[last, last + 1]])
        widths.append(round(float(right - left), 3))
    return widths


def ducc0_slices(sinograms: np.ndarray, angles_deg: np.ndarray, axis_px: float):
    """Reconstruct with an independent non-uniform FFT, two slices as one complex."""
    import ducc0

    num_angles, width = sinograms.shape[1:]
    padded = 2 * width
    kernel = np.zeros(padded)
    kernel[0] = 0.25
    odd = np.arange(1, padded // 2, 2)
    kernel[odd] = kernel[-odd] = -1 / (np.pi * odd) ** 2
    frequency = np.fft.fftfreq(padded)
    response = np.fft.fft(kernel).real * np.exp(2j * np.pi * frequency * axis_px)
    response[padded // 2] = 0
    response = (response * np.pi / num_angles / padded).astype(np.complex64)
    turn = np.deg2rad(angles_deg)[:, None]
    place = np.stack([frequency * np.sin(turn), frequency * np.cos(turn)], -1)
    place = (2 * np.pi * place).astype(np.float32).reshape(-1, 2)
    slices = []
    for first, second in zip(sinograms[::2], sinograms[1::2], strict=True):
        spectrum = ducc0.fft.c2c(
            np.pad(first + 1j * second, ((0, 0), (0, padded - width))).astype(
                np.complex64
            ),
            axes=(1,),
            nthreads=0,
        )
        spectrum *= response
        both = ducc0.nufft.nu2u(
            points=spectrum.ravel(),
            coord=place,
            forward=False,
            epsilon=1e-3,
            nthreads=0,
            out=np.empty((width, width), np.complex64),
        )
        slices += [both.real, both.imag]
    return np.stack(slices)


def measure_engines(width: int, num_angles: int, number: int) -> dict[str, object]:
    oracle = load(ORACLE)
    angles = np.arange(num_angles) * 180.0 / num_angles
    axis_px = width / 2
    ellipses = oracle.ELLIPSES[:1] + gap_ellipses(width)
    sinogram = oracle.phantom_sinogram(width, angles, axis_px, ellipses=ellipses)
    stack = np.repeat(sinogram[None], number, axis=0)
    exact_slice = load(EXACT).exact_slice
    begun = time.perf_counter()
    exact = exact_slice(sinogram, angles, axis_px)
    exact_s = time.perf_counter() - begun
    place = np.arange(width) - width // 2
    inside = place[:, None] ** 2 + place[None] ** 2 < (width / 2 - 2) ** 2
    level = np.sqrt((exact[inside] ** 2).mean())
    # What the yardstick itself is off by: its straight lines between upsampled values.
    some = np.arange(width // 64, width, width // 32)
    finer = exact_slice(sinogram, angles, axis_px, rows=some, upsampling=64)
    own_error = np.sqrt(((exact[some] - finer)[inside[some]] ** 2).mean()) / level
    found: dict[str, object] = {
        "exact FBP": {
            "wall_s_per_slice": exact_s,
            "own_error": float(own_error),
            "fwhm_px": full_width_at_half_maximum(exact),
        }
    }
    machines: dict[str, Callable[[], np.ndarray]] = {}
    ours = engine("gridrec", angles, width, axis_px)
    out = np.empty((number, width, width), np.float32)
    machines["gridrec"] = lambda: ours.reconstruct(stack, out)
    if importlib.util.find_spec("ducc0") is not None:
        machines["ducc0"] = lambda: ducc0_slices(stack, angles, axis_px)
    if importlib.util.find_spec("tomopy") is not None:
        theirs = engine("tomopy", angles, width, axis_px)
        machines["tomopy"] = lambda: theirs.reconstruct(stack)
    for name, machine in machines.items():
        before = peak_gib()
        image = machine()[0].astype(np.float64)
        cost = timed(machine)
        found[name] = {
            "wall_s_per_slice": cost["wall_s"] / number,
            "cpu_s_per_slice": cost["cpu_s"] / number,
            "peak_gib": peak_gib(),
            "peak_gib_before": before,
            "error_to_exact": float(
                np.sqrt(((image - exact)[inside] ** 2).mean()) / level
            ),
            "fwhm_px": full_width_at_half_maximum(image),
        }
    return found


def measure_steps(
    width: int, height: int, num_angles: int, directory: Path
) -> dict[str, object]:
    rng = np.random.default_rng(0)
    dark = np.full((height, width), 100, np.float32)
    flat = rng.normal(30000, 300, (height, width)).astype(np.float32)
    frame = rng.integers(5000, 30000, (height, width)).astype(np.uint16)
    attenuation = np.empty((height, width), np.float32)
    field = FlatField(dark, flat)
    lens = DistortionSettings(
        centre_x_px=width / 2, centre_y_px=height / 2, coefficients=(1, -1e-6, -1e-8)
    )
    unwarp = Unwarp(lens, (height, width), slice(0, height))
    phase = PhaseRetrieval(
        PhaseSettings(delta_beta=220, distance_mm=10, energy_kev=22.3),
        (height, width),
        0.8,
    )
    preview = PreviewStack(2, height, width, 0.8)
    sinogram = rng.normal(1, 0.02, (num_angles, width)).astype(np.float32)
    steps: dict[str, Callable[[], object]] = {
        "normalise, frame": lambda: field.attenuation(frame, attenuation),
        "unwarp, frame": lambda: unwarp(attenuation),
        "phase, frame": lambda: phase(attenuation),
        "preview, frame": lambda: preview.put(0, attenuation),
        "zingers, slice": lambda: remove_zingers(sinogram, 0.3),
        "rings: response, slice": lambda: correct_response(sinogram),
        "rings: sorting, slice": lambda: remove_stripes_by_sorting(sinogram),
        "rings: all, slice": lambda: remove_stripes(sinogram),
    }
    found: dict[str, object] = {}
    for name, step in steps.items():
        step()
        found[name] = timed(step)
    with SinogramStore(
        32, height, width, directory=directory, memory_limit_bytes=32 * height * width
    ) as store:

        def put() -> None:
            for index in range(32):
                store.put(index, attenuation)
            store.flush()

        put()
        cost = timed(put, 1)
        found["store on disk, frame"] = {key: cost[key] / 32 for key in cost}
        rows = store.band(0)
        cost = timed(lambda: store.band(0))
        share = num_angles / 32 / len(rows)
        found["load from disk, slice"] = {key: cost[key] * share for key in cost}
    return found


def measure_chain(
    width: int,
    num_angles: int,
    rows: int,
    directory: Path,
    output: str,
    memory_limit_gib: float,
) -> dict[str, object]:
    """Generate frames, take them in as they come, reconstruct, write."""
    oracle = load(ORACLE)
    angles = np.arange(num_angles) * 180.0 / num_angles
    axis_px = width / 2 + 3.3
    sinogram = oracle.phantom_sinogram(
        width, angles, axis_px, scale=2.5 / width, ellipses=oracle.ELLIPSES
    )
    rng = np.random.default_rng(0)
    # One frame of noise, rolled: new noise for 13 million frames' pixels would be
    # what is measured.
    noise = rng.normal(0, 0.006, (rows, width)).astype(np.float32)
    taper = np.linspace(0.8, 1.0, rows, dtype=np.float32)[:, None]
    settings = ReconstructionSettings(
        output=output,
        output_range=(-0.01, 0.03) if output == "uint16" else None,
        memory_limit_gib=memory_limit_gib,
    )
    with ScanIngest("benchmark", num_angles, 0.8, settings, directory) as ingest:
        ingest.darks.add(np.full((5, rows, width), 100, np.uint16))
        ingest.flats.add(np.full((5, rows, width), 30100, np.uint16))
        ingest.begin()
        taking, taking_cpu, slowest = 0.0, 0.0, 0.0
        for index in range(num_angles):
            transmission = np.exp(np.roll(noise, index, 1) - sinogram[index] * taper)
            frame = (100 + 30000 * transmission).astype(np.uint16)
            begun, processor = time.perf_counter(), time.process_time()
            ingest.put(index, frame)
            passed = time.perf_counter() - begun
            taking += passed
            taking_cpu += time.process_time() - processor
            slowest = max(slowest, passed)
        last_frame = time.perf_counter()
        first = find_axis(ingest, angles, settings)
        pictures = ingest.preview.slices(angles, first)
        write_slices(pictures, directory, "preview")
        preview_s = time.perf_counter() - last_frame
        ingest.end()
        axis = refined_axis(ingest, angles, first, settings)
        axis_s = time.perf_counter() - last_frame - preview_s
        result = reconstruct(
            ingest,
            angles,
            axis.column_px,
            directory / "tomogram.h5",
            settings,
            pixel_size_um=0.8,
        )
        volume_s = time.perf_counter() - last_frame
    with h5py.File(result.tomogram_file) as file:
        stored = file["entry/data/data"].id.get_storage_size()
    result.tomogram_file.unlink()
    return {
        "frames": num_angles,
        "rows": rows,
        "output": output,
        "frames_per_s": num_angles / taking,
        "slowest_frame_s": slowest,
        "cpu_s_per_frame": taking_cpu / num_angles,
        "last_frame_to_preview_s": preview_s,
        "axis_s": axis_s,
        "axis_error_px": axis.column_px - axis_px,
        "last_frame_to_volume_s": volume_s,
        "wall_s_per_slice": (volume_s - preview_s - axis_s) / rows,
        "seconds": result.seconds,
        "volume_gb": stored / 1e9,
        "peak_gib": peak_gib(),
        "memory_limit_gib": memory_limit_gib,
    }


def report(found: dict[str, object]) -> None:
    for name, part in found.items():
        print(f"\n{name}")
        if not isinstance(part, dict):
            print(f"  {part}")
            continue
        for key, value in part.items():
            if isinstance(value, dict):
                line = ", ".join(
                    f"{inner} {number:.4g}"
                    if isinstance(number, float)
                    else f"{inner} {number}"
                    for inner, number in value.items()
                )
                print(f"  {key}: {line}")
            else:
                print(f"  {key}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=PAPER_WIDTH)
    parser.add_argument("--angles", type=int, default=PAPER_ANGLES)
    parser.add_argument("--rows", type=int, default=PAPER_ROWS)
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--streaming", action="store_true")
    parser.add_argument("--only-streaming", action="store_true")
    parser.add_argument("--keeping-up", action="store_true", help="nothing else")
    parser.add_argument("--seconds", type=float, default=120, help="of --keeping-up")
    parser.add_argument("--frames-per-s", type=float, default=5)
    parser.add_argument("--earlier-rows", type=int, default=480)
    parser.add_argument("--memory-limit-gib", type=float, default=8)
    parser.add_argument("--output", choices=("float32", "uint16"), default="uint16")
    parser.add_argument("--directory", type=Path, help="where large files may go")
    parser.add_argument("--json", type=Path, default=Path("reconstruction.json"))
    options = parser.parse_args()
    found: dict[str, object] = {
        "machine": {
            "processors": len(os.sched_getaffinity(0)),
            "processor": platform.processor() or platform.machine(),
            "load_before": os.getloadavg()[0],
            "python": platform.python_version(),
            "numpy": np.__version__,
            "size": f"{options.angles} x {options.width}",
        }
    }
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        directory = Path(folder)
        if options.keeping_up:
            found["keeping up"] = load(KEEPING_UP).measure_keeping_up(
                load(ORACLE),
                directory,
                width=options.width,
                rows=options.rows,
                num_angles=options.angles,
                earlier_rows=options.earlier_rows,
                seconds=options.seconds,
                frames_per_s=options.frames_per_s,
                memory_limit_gib=options.memory_limit_gib,
            )
        elif not options.only_streaming:
            engines = measure_engines(options.width, options.angles, options.slices)
            found["engines"] = engines
            ours = engines["gridrec"]["wall_s_per_slice"]
            found["times as fast as"] = {
                name: round(engines[name]["wall_s_per_slice"] / ours, 2)
                for name in engines
                if name != "gridrec"
            }
            found["steps"] = measure_steps(
                options.width, options.rows, options.angles, directory
            )
        if (options.streaming or options.only_streaming) and not options.keeping_up:
            found["chain"] = measure_chain(
                options.width,
                options.angles,
                options.rows,
                directory,
                options.output,
                options.memory_limit_gib,
            )
    report(found)
    options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
