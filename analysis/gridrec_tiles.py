"""Rays in the Fourier plane, spread tile by tile onto a square grid.

A tile and what the kernel adds around it stay in cache; tiles of one of four colours
never touch, so threads need no locks. The values of sixteen slices lie side by side at
each point of a ray, so that they share the kernel's weights.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import i0

LANES = 16
"""Slices that are gridded together."""

TILE = 36
"""Cells of the grid along a side of a tile."""

KERNEL = 6
"""Cells that a point is spread over, along each axis."""

TABLE = 512
HALO = TILE + KERNEL - 1
HALO_ROW = HALO * LANES
SPAN = KERNEL * LANES


class TileRuns:
    """Which stretches of which rays fall into which tile of the grid.

    A run is (angle, first frequency, length). Runs are sorted by tile; frequencies
    of one run are contiguous in memory.
    """

    def __init__(
        self,
        cos: NDArray[np.float64],
        sin: NDArray[np.float64],
        padded: int,
        grid_size: int,
    ) -> None:
        tiles = grid_size // TILE
        self.step_x = cos * (grid_size / padded)
        self.step_y = sin * (grid_size / padded)
        self.start = np.zeros(tiles * tiles + 1, np.int64)
        self.angle = self.first = self.length = np.empty(0, np.int32)
        counts = self._cut(padded, grid_size)
        self.start[1:] = np.cumsum(counts[:-1])
        number = self.start[-1]
        self.angle = np.empty(number, np.int32)
        self.first = np.empty(number, np.int32)
        self.length = np.empty(number, np.int32)
        self._cut(padded, grid_size)
        points_before = np.concatenate([[0], np.cumsum(self.length, dtype=np.int64)])
        self._points = np.diff(points_before[self.start])
        index = np.arange(tiles * tiles, dtype=np.int32).reshape(tiles, tiles)
        self._colours = [
            index[row::2, column::2].ravel() for row in (0, 1) for column in (0, 1)
        ]

    def _cut(self, padded: int, grid_size: int) -> NDArray[np.int64]:
        return _cut_runs(
            self.step_x, self.step_y, padded, grid_size,
            self.start, self.angle, self.first, self.length,
        )  # fmt: skip

    def colours(self, threads: int) -> list[list[NDArray[np.int32]]]:
        """Return, per colour, lists of tiles of about equal work."""
        chunks_per_colour = 1 if threads == 1 else 8 * threads
        shared = []
        for tiles in self._colours:
            busy = tiles[self._points[tiles] > 0]
            work = np.cumsum(self._points[busy])
            total = work[-1] if len(work) else 0
            cuts = np.searchsorted(
                work, total * np.arange(1, chunks_per_colour) / chunks_per_colour
            )
            shared.append([part for part in np.split(busy, cuts) if len(part)])
        return shared


def kernel_tables(
    size: int, grid_size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the kernel, tabulated, and one over its transform across a slice."""
    oversampling = grid_size / size
    beta = np.pi * np.sqrt(
        (KERNEL / oversampling) ** 2 * (oversampling - 0.5) ** 2 - 0.8
    )

    def kernel(x: NDArray[np.float64]) -> NDArray[np.float64]:
        inside = np.maximum(0, 1 - (2 * x / KERNEL) ** 2)
        return np.where(
            np.abs(x) <= KERNEL / 2, i0(beta * np.sqrt(inside)) / i0(beta), 0.0
        )

    offsets = np.arange(TABLE + 2)[:, None] / TABLE - KERNEL / 2
    table = kernel(offsets + np.arange(KERNEL)[None])
    nodes, node_weights = np.polynomial.legendre.leggauss(64)
    nodes, node_weights = nodes * KERNEL / 2, node_weights * KERNEL / 2
    place = (np.arange(size) - size // 2)[:, None] / grid_size
    transform = np.cos(2 * np.pi * place * nodes[None]) @ (kernel(nodes) * node_weights)
    return table.astype(np.float32), (1 / transform).astype(np.float32)


@njit(cache=True, nogil=True)
def _cut_runs(step_x, step_y, padded, grid_size, start, angle, first, length):
    """Count the runs in each tile; write them down where room is given."""
    tiles = grid_size // TILE
    last_k = padded // 2 - 1
    write = len(angle) > 0
    place = start.copy() if write else np.zeros_like(start)
    for a in range(len(step_x)):
        tile = -1
        begun = 0
        number = 0
        # One step past the last sample, where no tile is, ends the last run.
        for k in range(-last_k, last_k + 2):
            row = int(np.ceil(k * step_y[a] + grid_size / 2 - KERNEL / 2)) % grid_size
            col = int(np.ceil(k * step_x[a] + grid_size / 2 - KERNEL / 2)) % grid_size
            here = (row // TILE) * tiles + col // TILE if k <= last_k else -1
            # Memory wraps at frequency 0, so a run ends there.
            if here != tile or k == 0:
                if tile >= 0:
                    if write:
                        angle[place[tile]] = a
                        first[place[tile]] = begun
                        length[place[tile]] = number
                    place[tile] += 1
                tile = here
                begun = k
                number = 0
            number += 1
    return place


@njit(cache=True, nogil=True, fastmath=True)
def _kernel_weights(fraction, table, out):
    place = np.float32(fraction * TABLE)
    index = int(place)
    place -= np.float32(index)
    low = table[index]
    high = table[index + 1]
    for j in range(KERNEL):
        out[j] = low[j] + place * (high[j] - low[j])


@njit(cache=True, nogil=True, fastmath=True)
def _fill_tile(
    tile, step_x, step_y, padded, grid_size, table, start, angle, first, length, rays,
    halo, across, weight_y, weight_x,
):  # fmt: skip
    """Add up all points of a tile in a block that stays in cache."""
    tiles = grid_size // TILE
    centre = grid_size // 2
    row0 = (tile // tiles) * TILE
    col0 = (tile % tiles) * TILE
    halo[:] = np.float32(0)
    for run in range(start[tile], start[tile + 1]):
        a = angle[run]
        k0 = first[run]
        number = length[run]
        memory = k0 if k0 >= 0 else k0 + padded
        values = rays[a, memory * LANES : (memory + number) * LANES]
        for i in range(number):
            y = (k0 + i) * step_y[a] + (centre - KERNEL / 2)
            x = (k0 + i) * step_x[a] + (centre - KERNEL / 2)
            up = np.ceil(y)
            right = np.ceil(x)
            row = int(up)
            col = int(right)
            y = up - y
            x = right - x
            row -= row0
            col -= col0
            # Frequencies wrap round, so a tile at the end is beside one at the start.
            if row < -centre:
                row += grid_size
            elif row > centre:
                row -= grid_size
            if col < -centre:
                col += grid_size
            elif col > centre:
                col -= grid_size
            # A point on the very edge of a cell may round to the other side here than
            # it did when the runs were cut: keep it in its tile, same place.
            if row < 0:
                row += 1
                y += 1.0
            if row >= TILE:
                row -= 1
                y = 0.0
            if col < 0:
                col += 1
                x += 1.0
            if col >= TILE:
                col -= 1
                x = 0.0
            _kernel_weights(y, table, weight_y)
            _kernel_weights(x, table, weight_x)
            lanes = values[i * LANES : i * LANES + LANES]
            for j in range(KERNEL):
                weight = weight_x[j]
                part = across[j * LANES : j * LANES + LANES]
                for lane in range(LANES):
                    part[lane] = weight * lanes[lane]
            place = row * HALO_ROW + col * LANES
            for j in range(KERNEL):
                weight = weight_y[j]
                at = place + j * HALO_ROW
                line = halo[at : at + SPAN]
                for lane in range(SPAN):
                    line[lane] += weight * across[lane]


@njit(cache=True, nogil=True, fastmath=True)
def _empty_tile(tile, halo, grids):
    """Add a finished tile to the grids, which wrap round with frequency 0 first."""
    grid_size = grids.shape[1]
    tiles = grid_size // TILE
    centre = grid_size // 2
    row0 = (tile // tiles) * TILE
    col0 = (tile % tiles) * TILE - centre
    if col0 < 0:
        col0 += grid_size
    whole = min(HALO, grid_size - col0)
    for i in range(HALO):
        row = row0 + i - centre
        if row < 0:
            row += grid_size
        if row >= grid_size:
            row -= grid_size
        for p in range(len(grids)):
            lane = halo[i * HALO_ROW + 2 * p :]
            line = grids[p, row, 2 * col0 : 2 * (col0 + whole)]
            for j in range(whole):
                line[2 * j] += lane[j * LANES]
                line[2 * j + 1] += lane[j * LANES + 1]
            if whole < HALO:
                lane = halo[i * HALO_ROW + whole * LANES + 2 * p :]
                line = grids[p, row, 0 : 2 * (HALO - whole)]
                for j in range(HALO - whole):
                    line[2 * j] += lane[j * LANES]
                    line[2 * j + 1] += lane[j * LANES + 1]


@njit(cache=True, nogil=True, fastmath=True)
def spread_rays(
    chosen, step_x, step_y, padded, table, start, angle, first, length, rays, grids
):
    """Grid the points of the chosen tiles, which must be of one colour."""
    halo = np.empty(HALO * HALO_ROW, np.float32)
    across = np.empty(SPAN, np.float32)
    weight_y = np.empty(KERNEL, np.float32)
    weight_x = np.empty(KERNEL, np.float32)
    for tile in chosen:
        _fill_tile(
            tile, step_x, step_y, padded, grids.shape[1], table, start, angle, first,
            length, rays, halo, across, weight_y, weight_x,
        )  # fmt: skip
        _empty_tile(tile, halo, grids)
