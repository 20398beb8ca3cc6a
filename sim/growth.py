"""How far the cracks of a state have grown, by the law of their volume."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import root_scalar

from sim.camera_settings import CameraSettings
from sim.cell import CellState, crack_volume_um3, crack_width_um
from sim.cell_settings import CellSettings
from sim.crack_drawing import CrackDrawing, Growth
from sim.cracks import CrackPattern, sheet_strands
from sim.displacement import swing
from sim.lattice import Lattice
from sim.voxel_kernels import weighted_sum

# Older cracks go on growing at this part of the pace of the newest.
_AFTERGROWTH = 0.3
# Voxels on which volumes are taken while the growth is searched, and at last.
_SEARCH_VOXELS = 1_500_000
_PRECISE_VOXELS = 20_000_000
# New sheets of a half-cycle could hold this many times the volume that it needs.
_SPARE = 1.6


@dataclass(frozen=True)
class _History:
    batches: tuple[tuple[int, ...], ...] = ()
    progress: tuple[float, ...] = ()


class CrackNetwork:
    """Finds the cracks that belong to a state of the cell.

    Cracks grow until their volume is that of the law. The search takes place in a
    flat, unchipped pellet; a state asked for directly is the same as one reached
    step by step.

    Parameters
    ----------
    settings : CellSettings
        Geometry and laws.
    seed : int
        Seed of the cell.
    lattice : Lattice
        Voxels of the whole pellet.

    Attributes
    ----------
    sample, precise : Lattice
        Some rows, for the search and for what must be exact.
    drawing : CrackDrawing
        Lays the cracks on voxels.
    """

    def __init__(self, settings: CellSettings, seed: int, lattice: Lattice) -> None:
        self.settings = settings
        self.lattice = lattice
        self.sample = lattice.sample(_SEARCH_VOXELS)
        self.precise = lattice.sample(_PRECISE_VOXELS)
        self._pattern = CrackPattern(settings, seed)
        self.drawing = CrackDrawing(settings, self._pattern, lattice, self.sample)
        self._thickness_um = 1e3 * settings.pellet_thickness_mm
        self._histories: dict[tuple[int, ...], _History] = {(): _History()}

    def growth(self, state: CellState) -> Growth:
        """Return how far the cracks of a state have grown."""
        begun = len(state.directions)
        if not self.settings.cracks.enabled or not begun:
            return Growth((), (), (), crack_width_um(self.settings, 0.0), 0.0)
        for count in range(1, begun):
            self._remember(state.directions[:count])
        return self._solve(state.directions, state.half_cycles)

    def check_law(self) -> None:
        """Refuse a law of the volume that the first crack cannot keep.

        Raises
        ------
        ValueError
            If the first crack holds more than the law allows.
        """
        if self.settings.cracks.enabled:
            self._remember((1,))

    def volume_um3(self, growth: Growth) -> float:
        """Return the cracks' volume in a flat, unchipped pellet."""
        cracks = self.drawing.lay(growth, self.sample)
        inside = self.sample.disc[cracks.columns]
        rows = self.sample.disc_rows * self.sample.rows_each.astype(np.float32)
        parts = weighted_sum(cracks.cover, inside, rows)
        return parts * self.sample.pitch_um**3

    def crossing_um(self) -> float:
        """Return how far the first crack has grown when it crosses the pellet."""
        sheet = self._pattern.sheet(0)
        bottom = np.array([self._thickness_um])
        table = sheet_strands(sheet, bottom, self._thickness_um, 0.0)[0]
        return float(table[..., 3].min())

    def first_reach_um(self, growth: Growth) -> float:
        """Return how far the first crack has grown."""
        return self.drawing.reaches(growth)[0][2] if growth.batches else 0.0

    def _remember(self, directions: tuple[int, ...]) -> None:
        if directions not in self._histories:
            growth = self._solve(directions, float(len(directions)))
            self._histories[directions] = _History(growth.batches, growth.progress)

    def _solve(self, directions: tuple[int, ...], half_cycles: float) -> Growth:
        before = self._histories[directions[:-1]]
        if len(directions) == 1:
            return self._first_charge(directions, half_cycles)
        target = crack_volume_um3(self.settings, half_cycles)
        width_um = crack_width_um(self.settings, half_cycles)
        breath = self._breath(directions, half_cycles)
        batch = self._next_batch(before, directions)

        def at(progress: float, scale: float = 1.0) -> Growth:
            older = list(before.progress)
            older[-1] += _AFTERGROWTH * progress
            return Growth(
                (*before.batches, batch),
                directions,
                (*older, progress),
                scale * width_um,
                breath,
            )

        if self.volume_um3(at(0.0)) >= target:
            # Widening alone brings more volume than the law allows.
            scale = _root(lambda k: self.volume_um3(at(0.0, k)) - target, 0.5, 1.0)
            return at(0.0, scale)
        return at(_root(lambda p: self.volume_um3(at(p)) - target, 0.0, 1.0))

    def _first_charge(self, directions: tuple[int, ...], half_cycles: float) -> Growth:
        cracks = self.settings.cracks
        batch = self._next_batch(_History(), directions)
        target = crack_volume_um3(self.settings, 1.0)
        crossing = self.crossing_um() / self.drawing.full_reach_um(0)

        def at(progress: float, breath: float) -> Growth:
            width_um = crack_width_um(self.settings, 1.0)
            return Growth((batch,), directions, (progress,), width_um, breath)

        last = self._breath(directions, 1.0)
        if self.volume_um3(at(crossing, last)) >= target:
            raise ValueError(
                f"cracks.first_volume_fraction is {cracks.first_volume_fraction}; the "
                "first crack holds more than that when it crosses the pellet: raise "
                "it, or make the cracks thinner or the pellet wider"
            )
        end = _root(lambda p: self.volume_um3(at(p, last)) - target, crossing, 1.0)
        progress = np.interp(
            half_cycles,
            [cracks.nucleation_fraction, cracks.first_crossing_fraction, 1.0],
            [0.0, crossing, end],
        )
        return at(float(progress), self._breath(directions, half_cycles))

    def _next_batch(
        self, before: _History, directions: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Return enough new sheets for the volume of the next half-cycle."""
        half_cycles = float(len(directions))
        width_um = crack_width_um(self.settings, half_cycles)
        breath = self._breath(directions, half_cycles)
        first = sum(len(batch) for batch in before.batches)

        def held_um3(batch: list[int], progress: float) -> float:
            older = list(before.progress)
            if older:
                older[-1] += _AFTERGROWTH * progress
            grown = (*older, progress)
            batches = (*before.batches, tuple(batch))
            return self.volume_um3(Growth(batches, directions, grown, width_um, breath))

        target = crack_volume_um3(self.settings, half_cycles)
        start = held_um3([], 0.0)
        enough = start + _SPARE * (target - start)
        batch = [first]
        held = held_um3(batch, 1.0)
        while held < enough:
            # By area first, because laying sheets to find their volume takes time.
            room = enough - held
            while room > 0:
                index = first + len(batch)
                batch.append(index)
                length_um = self._pattern.sheet(index).length_um
                room -= length_um * self._thickness_um * width_um
            if len(batch) > 1000:
                raise ValueError(
                    f"the law asks for {target:.4g} µm³ of cracks after "
                    f"{half_cycles:g} half-cycles and the pellet has no room for them: "
                    "lower cracks.volume_growth_fraction"
                )
            held = held_um3(batch, 1.0)
        return tuple(batch)

    def _breath(self, directions: tuple[int, ...], half_cycles: float) -> float:
        state = CellState(seed=0, half_cycles=half_cycles, directions=directions)
        return -self.settings.cracks.breathing * swing(state)


def check_cracks(cell: CellSettings, camera: CameraSettings, seed: int) -> None:
    """Refuse a cell whose cracks cannot follow their law, before it is made.

    Parameters
    ----------
    cell : CellSettings
    camera : CameraSettings
        Its pixels are the voxels.
    seed : int

    Raises
    ------
    ValueError
        With the setting to change.
    """
    lattice = Lattice.around(cell, camera.pixel_size_um, camera.pellet_row_px)
    CrackNetwork(cell, seed, lattice).check_law()


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(root_scalar(function, bracket=(low, high), xtol=1e-5).root)
