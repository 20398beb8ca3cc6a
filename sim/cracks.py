"""Where cracks run: thin curved sheets, traced one after the other.

Seen from above a crack is a curve; it ends where it meets an older one or the rim,
so that the curves divide the pellet into fragments as drying mud does. Each curve
is the trace of a sheet that grows into the pellet from the face where it started,
there often with a shell round its start and a second, narrower strand.
"""

from dataclasses import dataclass

import numpy as np

from sim.cell_settings import CellSettings

# The stream of random numbers of the pattern, apart from others of the same seed.
_STREAM = 0xC4AC

# What the last axis of a strand's table holds.
OFFSET, SLANT, WIDTH, ARRIVAL, RANK = range(5)

# An arrival beyond any growth.
_NEVER_UM = 1e9


@dataclass(frozen=True)
class Fork:
    """A second strand that joins its sheet at some depth.

    Attributes
    ----------
    aside_um : float
        Distance between the strands at the face.
    depth : float
        Depth at which they meet, as a part of the thickness.
    span_um : float
        Length along the trace, either way from the start, that has two strands.
    """

    aside_um: float
    depth: float
    span_um: float


@dataclass(frozen=True)
class Ring:
    """Half an ellipsoidal shell round the start of a sheet, open at the face."""

    radius_um: float
    depth_um: float


@dataclass(frozen=True)
class Sheet:
    """One crack at its full extent.

    Attributes
    ----------
    points_um : numpy.ndarray
        (n, 2) points (x, y) of the trace in steps of equal length, origin at the
        pellet's axis.
    step_um : float
        Length of a step.
    start_um : float
        Place along the trace where the crack starts.
    lean : float
        Sideways run per depth.
    waves : numpy.ndarray
        (m, 4) amplitude (µm), wavelength along the trace (µm), half-waves across the
        thickness, phase, of its departure from a ruled surface.
    ragged : numpy.ndarray
        (m, 4) the same, relative, of the front.
    swell : numpy.ndarray
        (m, 4) the same, relative, of the width.
    width_factor : float
        Width relative to the most frequent one.
    delay : float
        Part of its half-cycle's growth that passes before it starts.
    appetite : float
        How readily it takes lithium, relative to others.
    fork : Fork or None
        Its second strand.
    ring : Ring or None
        The shell round its start.
    """

    points_um: np.ndarray
    step_um: float
    start_um: float
    lean: float
    waves: np.ndarray
    ragged: np.ndarray
    swell: np.ndarray
    width_factor: float
    delay: float
    appetite: float
    fork: Fork | None
    ring: Ring | None

    @property
    def length_um(self) -> float:
        """Length of the trace."""
        return self.step_um * (len(self.points_um) - 1)

    @property
    def start(self) -> tuple[float, float]:
        """Place (x, y) where the crack starts, in µm."""
        x, y = self.points_um[round(self.start_um / self.step_um)]
        return float(x), float(y)


class CrackPattern:
    """The sheets of one cell in the order in which they form.

    Parameters
    ----------
    settings : CellSettings
        Geometry and laws.
    seed : int
        Seed of the cell.
    """

    def __init__(self, settings: CellSettings, seed: int) -> None:
        self._settings = settings
        self._rng = np.random.default_rng([seed, _STREAM])
        self._radius_um = 500 * settings.pellet_diameter_mm
        self._thickness_um = 1e3 * settings.pellet_thickness_mm
        self._step_um = max(1.0, self._radius_um / 400)
        self._sheets: list[Sheet] = []
        self._cell_um = 2.5 * self._step_um
        width = int(np.ceil(2 * self._radius_um / self._cell_um)) + 8
        self._taken = np.zeros((width, width), dtype=bool)
        self._traced = np.empty((0, 2))

    def sheet(self, index: int) -> Sheet:
        """Return the sheet that forms as number `index`, counted from 0."""
        while len(self._sheets) <= index:
            self._sheets.append(self._next_sheet())
        return self._sheets[index]

    def _next_sheet(self) -> Sheet:
        shortest_um = 0.12 * self._radius_um
        points, start = self._trace()
        for _ in range(60):
            if self._step_um * len(points) >= shortest_um:
                break
            points, start = self._trace()
        self._occupy(points)
        return self._clothe(points, start)

    def _trace(self) -> tuple[np.ndarray, int]:
        rng, radius = self._rng, self._radius_um
        if not self._sheets:
            origin = rng.uniform(-0.15, 0.15, 2) * radius
            heading = rng.uniform(0, np.pi)
            longest_um = 4 * radius
        else:
            origin = self._free_place()
            outward = np.arctan2(origin[1], origin[0])
            kind = rng.random()
            if kind < 0.45:
                heading = outward
            elif kind < 0.9:
                heading = outward + np.pi / 2
            else:
                heading = rng.uniform(0, np.pi)
            heading += rng.normal(0, 0.3)
            longest_um = radius * rng.uniform(0.35, 1.1)
        ahead = self._walk(origin, heading, longest_um)
        behind = self._walk(origin, heading + np.pi, longest_um)
        points = np.concatenate([behind[::-1], origin[None], ahead])
        return points, len(behind)

    def _free_place(self) -> np.ndarray:
        rng = self._rng
        places = rng.normal(size=(10, 2))
        places /= np.linalg.norm(places, axis=1)[:, None]
        places *= self._radius_um * np.sqrt(rng.uniform(0.0, 0.85, 10))[:, None]
        apart = places[:, None] - self._traced[None, ::4]
        nearest = np.sqrt((apart**2).sum(axis=2).min(axis=1))
        return places[np.argmax(nearest * rng.uniform(0.4, 1.0, 10))]

    def _walk(
        self, origin: np.ndarray, heading: float, longest_um: float
    ) -> np.ndarray:
        """Follow a smoothly bending path to an older trace or the rim."""
        rng, step = self._rng, self._step_um
        memory = np.exp(-step / (0.25 * self._radius_um))
        spread = 0.7 / self._radius_um
        bend = rng.normal(0, spread)
        place = origin.copy()
        path = []
        for _ in range(int(longest_um / step)):
            bend = memory * bend + np.sqrt(1 - memory**2) * rng.normal(0, spread)
            heading += bend * step
            place = place + step * np.array([np.cos(heading), np.sin(heading)])
            path.append(place)
            if np.hypot(*place) > self._radius_um + 3 * step:
                break
            if self._taken[self._cell(place)]:
                break
        return np.array(path).reshape(-1, 2)

    def _cell(self, place: np.ndarray) -> tuple[int, int]:
        middle = len(self._taken) // 2
        i, j = np.floor(place / self._cell_um).astype(int) + middle
        return int(i), int(j)

    def _occupy(self, points: np.ndarray) -> None:
        middle = len(self._taken) // 2
        cells = np.floor(points / self._cell_um).astype(int) + middle
        cells = cells.clip(0, len(self._taken) - 1)
        self._taken[cells[:, 0], cells[:, 1]] = True
        self._traced = np.concatenate([self._traced, points])

    def _clothe(self, points: np.ndarray, start: int) -> Sheet:
        rng, thickness = self._rng, self._thickness_um
        first = not self._sheets
        cracks = self._settings.cracks
        along = np.array([0.9, 0.45, 0.2]) * max(thickness, 0.2 * self._radius_um)
        amplitude_um = cracks.waviness_um * np.array([0.6, 0.3, 0.15])
        waves = self._waves(amplitude_um, along * rng.uniform(0.8, 1.25, 3), 2.5)
        ragged = self._waves(0.03, along * rng.uniform(0.3, 0.6, 3), 3.0)
        swell = self._waves(0.03, along * rng.uniform(0.3, 0.9, 3), 2.0)
        lean_um = np.clip(rng.normal(0, 0.05 * thickness), -12, 12)
        width_factor = float(np.exp(rng.normal(0, 0.06)))
        delay = float(rng.uniform(0.0, 0.4))
        appetite = float(np.exp(rng.normal(0, 0.6)))
        fork = Fork(
            aside_um=float(rng.choice([-1, 1]) * rng.uniform(4, 9)),
            depth=float(rng.uniform(0.2, 0.45)),
            span_um=float(thickness * rng.uniform(0.2, 0.6)),
        )
        radius_um = float(min(rng.uniform(5, 12), 0.3 * thickness))
        ring = Ring(radius_um, radius_um * float(rng.uniform(0.8, 1.5)))
        has_fork, has_ring = rng.random(2) < (0.5, 0.7)
        return Sheet(
            points_um=points,
            step_um=self._step_um,
            start_um=start * self._step_um,
            lean=float(lean_um / thickness),
            waves=waves,
            ragged=ragged,
            swell=swell,
            width_factor=1.0 if first else width_factor,
            delay=0.0 if first else delay,
            appetite=1.0 if first else appetite,
            fork=fork if cracks.branches and has_fork and not first else None,
            ring=ring if cracks.rings and (has_ring or first) else None,
        )

    def _waves(
        self, amplitude: np.ndarray | float, along: np.ndarray, most_halves: float
    ) -> np.ndarray:
        rng = self._rng
        return np.column_stack(
            [
                amplitude * rng.uniform(0.5, 1.2, 3),
                along,
                rng.uniform(0.3, most_halves, 3),
                rng.uniform(0, 2 * np.pi, 3),
            ]
        )


def sheet_strands(
    sheet: Sheet, depth_um: np.ndarray, thickness_um: float, interface_narrowing: float
) -> list[np.ndarray]:
    """Sample a sheet, strand by strand, along its trace at given depths.

    Parameters
    ----------
    sheet : Sheet
        The crack.
    depth_um : numpy.ndarray
        (rows,) depth of each row below the face where the crack started.
    thickness_um : float
        Thickness of the pellet.
    interface_narrowing : float
        How much narrower the crack is at the faces than mid-pellet.

    Returns
    -------
    list of numpy.ndarray
        One (points of the trace, rows, 5) float32 table per strand. Last axis: place
        aside of the trace (µm); cosine between the crack's normal and the trace's;
        width relative to the most frequent one; how far the crack must have grown to
        be here (µm); rank in being filled with lithium (µm).
    """
    along = sheet.step_um * np.arange(len(sheet.points_um))[:, None]
    depth = np.asarray(depth_um, dtype=float)[None, :]
    share = depth / thickness_um
    from_start = along - sheet.start_um

    table = np.empty((along.shape[0], depth.shape[1], 5), dtype=np.float32)
    offset = sheet.lean * (depth - thickness_um / 2) + np.zeros_like(along)
    by_depth = np.full_like(offset, sheet.lean)
    by_along = np.zeros_like(offset)
    for amplitude, length, halves, phase in sheet.waves:
        sine, cosine = _wave(2 * np.pi * along / length + phase, np.pi * halves * share)
        offset += amplitude * sine
        by_depth += amplitude * np.pi * halves / thickness_um * cosine
        by_along += amplitude * 2 * np.pi / length * cosine
    table[..., OFFSET] = offset
    table[..., SLANT] = 1 / np.sqrt(1 + by_depth**2 + by_along**2)

    width = sheet.width_factor * (1 + _ripple(sheet.swell, along, share))
    near_face = np.exp(-((share / 0.15) ** 2)) + np.exp(-(((1 - share) / 0.15) ** 2))
    table[..., WIDTH] = width * (1 - interface_narrowing * near_face.clip(0, 1))

    front = 1 + _ripple(sheet.ragged, along, share)
    # Above the face the front goes on as it is there, for a pellet that bends.
    table[..., ARRIVAL] = np.hypot(from_start, depth.clip(0)) * front
    table[..., RANK] = depth.clip(0) * (1 + 4 * (front - 1)) / sheet.appetite

    strands = [table]
    if sheet.fork is not None:
        fork = sheet.fork
        rise = (1 - share / fork.depth).clip(0, 1)
        second = table.copy()
        second[..., OFFSET] += fork.aside_um * rise**1.5
        slope = 1.5 * fork.aside_um * np.sqrt(rise) / (fork.depth * thickness_um)
        second[..., SLANT] = 1 / np.sqrt(1 + (by_depth - slope) ** 2 + by_along**2)
        second[..., WIDTH] *= 0.75
        outside = (share > fork.depth) | (np.abs(from_start) > fork.span_um)
        second[..., ARRIVAL][outside] = _NEVER_UM
        strands.append(second)
    return strands


def _ripple(waves: np.ndarray, along: np.ndarray, share: np.ndarray) -> np.ndarray:
    total = np.zeros(np.broadcast_shapes(along.shape, share.shape))
    for amplitude, length, halves, phase in waves:
        angle = 2 * np.pi * along / length + phase
        total += amplitude * _wave(angle, np.pi * halves * share)[0]
    return total


def _wave(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sine and cosine of a sum of angles, one a column and one a row."""
    # By the theorem: a sine for each point of a table takes ten times as long.
    sine = np.sin(one) * np.cos(other) + np.cos(one) * np.sin(other)
    cosine = np.cos(one) * np.cos(other) - np.sin(one) * np.sin(other)
    return sine, cosine
