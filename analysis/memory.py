"""How the memory limit is shared out, and how much is reconstructed at once.

While one scan is reconstructed the next one comes in. Each has its sinograms, the one
that comes in has its previews, and the arithmetic takes what is left.
"""

from dataclasses import dataclass

from analysis import gridrec
from analysis.errors import DataError

PROGRAM_BYTES = 400 * 2**20
"""Interpreter, libraries and compiled kernels, before the first frame."""

STORE_FRAC = 0.14
"""For the sinograms of each of two scans; larger ones go to disk."""

PREVIEW_FRAC = 0.22
RECONSTRUCTION_FRAC = 0.5

ROWS_AT_ONCE = (16, 8, 4, 2)
PASSES = (1, 2, 4, 8)
SINOGRAM_COPIES = 7
"""That zinger and ring removal take of a sinogram, in each thread."""


SLICE_CPU_S, BATCH_CPU_S, PASS_CPU_S = 0.19, 1.3, 0.15
"""Of a slice alone, of gridding however many at once, and of a share of the angles; at
2400 projections of 2560 columns, but their ratio is much the same elsewhere."""


def share_bytes(limit_gib: float, frac: float) -> int:
    """Return a share of what the limit leaves beside the program itself."""
    return int(max(limit_gib * 2**30 - PROGRAM_BYTES, 0) * frac)


@dataclass(frozen=True)
class Portion:
    """What is reconstructed at once.

    Attributes
    ----------
    rows : int
        Slices.
    passes : int
        Shares of the angles that the engine takes one after the other.
    threads : int
        That work at it.
    memory_bytes : int
        What that takes, from the sinograms read to the slices written.
    """

    rows: int
    passes: int
    threads: int
    memory_bytes: int


def portion(
    engine: str,
    num_angles: int,
    width_px: int,
    rotation_axis_px: float,
    size_px: int,
    *,
    threads: int,
    limit_bytes: int,
    name: str = "reconstruction",
) -> Portion:
    """Return the fastest portion whose memory stays under a limit.

    Parameters
    ----------
    engine : str
        Name of the engine.
    num_angles, width_px, rotation_axis_px, size_px
        Of the sinograms and slices, see `analysis.gridrec.Gridrec`.
    threads : int
        At most.
    limit_bytes : int
        For all of it, see `share_bytes`.
    name : str
        Scan that an error names.

    Raises
    ------
    DataError
        Not even two slices fit.
    """
    portions = [
        Portion(
            rows,
            passes,
            some_threads,
            _memory_bytes(
                engine, num_angles, width_px, rotation_axis_px, size_px,
                rows=rows, passes=passes, threads=some_threads,
            ),
        )
        for rows in ROWS_AT_ONCE
        for passes in PASSES
        for some_threads in range(1, threads + 1)
    ]  # fmt: skip
    fitting = [some for some in portions if some.memory_bytes <= limit_bytes]
    if fitting:
        return min(fitting, key=_seconds_per_slice)
    smallest = min(some.memory_bytes for some in portions)
    raise DataError(
        f"{name}: two slices of {num_angles} projections of {width_px} columns need "
        f"{smallest / 2**30:.2f} GiB, memory_limit_gib leaves "
        f"{limit_bytes / 2**30:.2f} GiB for them; raise it or set binning"
    )


def _memory_bytes(
    engine: str,
    num_angles: int,
    width_px: int,
    rotation_axis_px: float,
    size_px: int,
    *,
    rows: int,
    passes: int,
    threads: int,
) -> int:
    sinogram = num_angles * width_px
    # Of sinograms one set is at work and one is being read; of slices one is made
    # while another is written, as 16 bits, with its pyramid.
    held = rows * (8 * sinogram + 11 * size_px**2)
    held += 4 * SINOGRAM_COPIES * threads * sinogram
    if engine != "gridrec":
        # Its input padded on both sides, and its slices as wide.
        return held + rows * (8 * sinogram + 16 * size_px**2)
    return held + gridrec.memory_bytes(
        num_angles,
        width_px,
        rotation_axis_px,
        size_px=size_px,
        slices=rows,
        passes=passes,
        threads=threads,
    )


def _seconds_per_slice(some: Portion) -> float:
    """Return about how long it takes; what counts is which portion takes less."""
    alone = SLICE_CPU_S / min(some.threads, some.rows)
    together = BATCH_CPU_S + PASS_CPU_S * some.passes
    return alone + together / some.threads / some.rows
