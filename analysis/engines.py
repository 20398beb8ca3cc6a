"""Reconstruction engines behind one protocol, chosen by name."""

import importlib.util
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.gridrec import Gridrec

ENGINES = ("gridrec", "tomopy")


class Engine(Protocol):
    """Reconstructs slices of one geometry, in the conventions of `Gridrec`."""

    @property
    def name(self) -> str:
        """The name it is chosen by."""
        ...

    @property
    def batch(self) -> int:
        """Number of slices that it takes best at once."""
        ...

    def reconstruct(
        self, sinograms: NDArray[np.float32], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Turn sinograms (slice, angle, x) into slices (slice, y, x)."""
        ...


class EngineUnavailableError(RuntimeError):
    """An engine is not installed; the message says how to get it."""


def engine(
    name: str,
    angles_deg: NDArray[np.float64],
    width_px: int,
    rotation_axis_px: float,
    *,
    filter_window: str = "ramp",
    padding: str = "zero",
    size_px: int | None = None,
    threads: int | None = None,
    passes: int = 1,
) -> Engine:
    """Return an engine for one geometry; see `Gridrec` for the parameters.

    Raises
    ------
    ValueError
        There is no engine of that name.
    EngineUnavailableError
        There is, but it is not installed.
    """
    check_engine(name)
    if name == "tomopy":
        from analysis.tomopy_engine import TomopyGridrec

        return TomopyGridrec(
            angles_deg,
            width_px,
            rotation_axis_px,
            filter_window=filter_window,
            padding=padding,
            size_px=size_px,
            threads=threads,
        )
    return Gridrec(
        angles_deg,
        width_px,
        rotation_axis_px,
        filter_window=filter_window,
        padding=padding,
        size_px=size_px,
        threads=threads,
        passes=passes,
    )


def check_engine(name: str) -> None:
    """Raise unless the engine of that name can be had here."""
    if name not in ENGINES:
        raise ValueError(f"engine is {name!r}; it must be one of {', '.join(ENGINES)}")
    if name == "tomopy" and importlib.util.find_spec("tomopy") is None:
        raise EngineUnavailableError(
            "engine tomopy is not installed: TomoPy comes from conda-forge "
            "(conda install -c conda-forge tomopy); engine gridrec is always there"
        )
