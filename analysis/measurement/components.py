"""Connected components of a mask, a few rows at a time.

A union-find over runs of voxels along x: only the runs of the row above are held, so
the memory is that of the provisional labels and no label volume is needed. The same
mask given again row by row gets the same provisional labels, which is how small
components are removed in a second run.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from analysis.measurement.deficit import AT_ANODE, AT_CATHODE

STRONG_FLAG = 1
ANODE_FLAG = 2
CATHODE_FLAG = 4


@numba.njit(cache=True)
def _root(parent: np.ndarray, label: int) -> int:
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@numba.njit(cache=True)
def _join(parent: np.ndarray, one: int, other: int) -> int:
    other = _root(parent, other)
    if one == 0 or one == other:
        return other
    if other < one:
        parent[one] = other
        return other
    parent[other] = one
    return one


@numba.njit(cache=True)
def _count_runs(codes: np.ndarray) -> int:
    rows, ny, nx = codes.shape
    number = 0
    for row in range(rows):
        for y in range(ny):
            line = codes[row, y]
            found = 1 if line[0] else 0
            before, here = line[: nx - 1], line[1:]
            for x in range(nx - 1):
                found += before[x] == 0 and here[x] != 0
            number += found
    return number


@numba.njit(cache=True)
def _join_touching(
    parent: np.ndarray, best: int, runs: np.ndarray, number: int, at: int,
    start: int, stop: int,
) -> tuple[int, int]:  # fmt: skip
    """Join the runs of a line that overlap ``start`` to ``stop`` (exclusive).

    Return the label, and the first run that may touch the next one of this line.
    """
    while at < number and runs[at, 1] <= start:
        at += 1
    other = at
    while other < number and runs[other, 0] < stop:
        best = _join(parent, best, runs[other, 2])
        other += 1
    return best, at


@numba.njit(cache=True)
def _label_rows(
    codes: np.ndarray,
    region: np.ndarray,
    faces: bool,
    diagonal: bool,
    first_row: int,
    runs: np.ndarray,
    counts: np.ndarray,
    parent: np.ndarray,
    size: np.ndarray,
    flags: np.ndarray,
    top: np.ndarray,
    bottom: np.ndarray,
    number: int,
    keep: np.ndarray,
) -> int:
    """Label the runs of some rows; ``runs`` and ``counts`` hold those of two rows.

    A run is (start, stop, label); row z lies at index ``z % 2``. With ``keep`` the
    runs whose label it does not keep are cleared.
    """
    rows, ny, nx = codes.shape
    reach = 1 if diagonal else 0
    for row in range(rows):
        z = first_row + row
        now, above = z % 2, (z + 1) % 2
        for y in range(ny):
            line = codes[row, y]
            found = 0
            if line.max() == 0:
                counts[now, y] = 0
                continue
            before = level = ahead = behind = 0
            x = 0
            while x < nx:
                if line[x] == 0:
                    x += 1
                    continue
                start, flag, bits = x, 0, 0
                while x < nx and line[x] != 0:
                    if line[x] > 1:
                        flag = STRONG_FLAG
                    if faces:
                        bits |= region[row, y, x]
                    x += 1
                first, last = start - reach, x + reach
                best = 0
                if y > 0:
                    best, before = _join_touching(
                        parent, best, runs[now, y - 1], counts[now, y - 1], before,
                        first, last,
                    )  # fmt: skip
                best, level = _join_touching(
                    parent, best, runs[above, y], counts[above, y], level, first, last
                )
                if diagonal and y > 0:
                    best, behind = _join_touching(
                        parent, best, runs[above, y - 1], counts[above, y - 1], behind,
                        first, last,
                    )  # fmt: skip
                if diagonal and y + 1 < ny:
                    best, ahead = _join_touching(
                        parent, best, runs[above, y + 1], counts[above, y + 1], ahead,
                        first, last,
                    )  # fmt: skip
                if best == 0:
                    number += 1
                    best = number
                    parent[best] = best
                    size[best] = 0
                    flags[best] = 0
                    top[best] = z
                    bottom[best] = z
                if bits & AT_ANODE:
                    flag |= ANODE_FLAG
                if bits & AT_CATHODE:
                    flag |= CATHODE_FLAG
                runs[now, y, found, 0] = start
                runs[now, y, found, 1] = x
                runs[now, y, found, 2] = best
                found += 1
                size[best] += x - start
                flags[best] |= flag
                bottom[best] = max(bottom[best], z)
                if len(keep) and not keep[best]:
                    line[start:x] = 0
            counts[now, y] = found
    return number


@dataclass(frozen=True)
class Components:
    """Components of a mask; index 0 of each array is the first component.

    Attributes
    ----------
    voxels : ndarray, int64
        Size of each.
    strong, at_anode, at_cathode : ndarray of bool
        Holds a strong voxel; touches the face towards the anode, the cathode.
    top_row, bottom_row : ndarray, int32
        First and last row z.
    of_label : ndarray, int32
        Component of each provisional label; entry 0 is -1.
    """

    voxels: NDArray[np.int64]
    strong: NDArray[np.bool_]
    at_anode: NDArray[np.bool_]
    at_cathode: NDArray[np.bool_]
    top_row: NDArray[np.int32]
    bottom_row: NDArray[np.int32]
    of_label: NDArray[np.int32]

    @property
    def penetrates(self) -> NDArray[np.bool_]:
        """Whether each component touches both faces."""
        return self.at_anode & self.at_cathode


class Labeller:
    """Labels a mask that is given row by row.

    Parameters
    ----------
    shape : tuple[int, int]
        (y, x) of a row.
    diagonal : bool
        Voxels that share an edge or a corner are connected too (26 neighbours
        instead of 6).
    """

    def __init__(self, shape: tuple[int, int], *, diagonal: bool = True) -> None:
        self._diagonal = diagonal
        ny, nx = shape
        self._runs = np.empty((2, ny, nx // 2 + 1, 3), np.int32)
        self._counts = np.zeros((2, ny), np.int32)
        self._number = 0
        self._grow_to(1 << 16)

    def _grow_to(self, capacity: int) -> None:
        old = self._number + 1 if self._number else 0

        def grown(name: str, dtype: type) -> np.ndarray:
            array = np.zeros(capacity, dtype)
            if old:
                array[:old] = getattr(self, name)[:old]
            return array

        self._parent = grown("_parent", np.int32)
        self._size = grown("_size", np.int64)
        self._flags = grown("_flags", np.uint8)
        self._top = grown("_top", np.int32)
        self._bottom = grown("_bottom", np.int32)

    def add(
        self,
        first_row: int,
        codes: NDArray[np.uint8],
        region: NDArray[np.uint8] | None = None,
        *,
        keep: NDArray[np.bool_] | None = None,
    ) -> None:
        """Label the next rows.

        Parameters
        ----------
        first_row : int
            Row z of the first of them.
        codes : ndarray, uint8, shape (row, y, x)
            0 background, 1 weak, 2 strong.
        region : ndarray, uint8, optional
            Region bits, for the faces.
        keep : ndarray of bool, optional
            By provisional label, as `Components.of_label`: the codes of the others
            are set to 0.
        """
        wanted = self._number + _count_runs(codes) + 2
        if wanted > self._parent.size:
            self._grow_to(max(wanted, 2 * self._parent.size))
        self._number = _label_rows(
            codes,
            codes if region is None else region,
            region is not None,
            self._diagonal,
            first_row,
            self._runs,
            self._counts,
            self._parent,
            self._size,
            self._flags,
            self._top,
            self._bottom,
            self._number,
            np.empty(0, np.bool_) if keep is None else keep,
        )

    def finish(self) -> Components:
        """Return the components of all rows given so far."""
        last = self._number + 1
        root = self._parent[:last].copy()
        while True:
            following = root[root]
            if np.array_equal(following, root):
                break
            root = following
        roots = np.flatnonzero(root == np.arange(last))
        roots = roots[roots > 0]
        of_root = np.full(last, -1, np.int32)
        of_root[roots] = np.arange(len(roots), dtype=np.int32)
        component = of_root[root]
        component[0] = -1
        labelled = component[1:]
        voxels = np.zeros(len(roots), np.int64)
        np.add.at(voxels, labelled, self._size[1:last])
        flags = np.zeros(len(roots), np.uint8)
        np.bitwise_or.at(flags, labelled, self._flags[1:last])
        top = np.full(len(roots), np.iinfo(np.int32).max, np.int32)
        np.minimum.at(top, labelled, self._top[1:last])
        bottom = np.full(len(roots), -1, np.int32)
        np.maximum.at(bottom, labelled, self._bottom[1:last])
        return Components(
            voxels=voxels,
            strong=(flags & STRONG_FLAG) > 0,
            at_anode=(flags & ANODE_FLAG) > 0,
            at_cathode=(flags & CATHODE_FLAG) > 0,
            top_row=top,
            bottom_row=bottom,
            of_label=component,
        )
