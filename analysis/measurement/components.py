"""Connected components of a mask, a few rows at a time.

A union-find over the rows: only the labels of the row above are held, so the memory is
that of the provisional labels and no label volume is needed. The same mask given again
row by row gets the same provisional labels, which is how small components are removed
in a second run.
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
def _label_rows(
    codes: np.ndarray,
    region: np.ndarray,
    faces: bool,
    diagonal: bool,
    first_row: int,
    above: np.ndarray,
    parent: np.ndarray,
    size: np.ndarray,
    flags: np.ndarray,
    top: np.ndarray,
    bottom: np.ndarray,
    labels: np.ndarray,
    number: int,
) -> int:
    rows, ny, nx = codes.shape
    for row in range(rows):
        z = first_row + row
        for y in range(ny):
            for x in range(nx):
                labels[row, y, x] = 0
                code = codes[row, y, x]
                if code == 0:
                    continue
                best = 0
                if x > 0 and labels[row, y, x - 1]:
                    best = _root(parent, labels[row, y, x - 1])
                if diagonal:
                    for near in range(max(x - 1, 0), min(x + 2, nx)):
                        if y > 0 and labels[row, y - 1, near]:
                            best = _join(parent, best, labels[row, y - 1, near])
                        for dy in range(-1, 2):
                            if 0 <= y + dy < ny and above[y + dy, near]:
                                best = _join(parent, best, above[y + dy, near])
                else:
                    if y > 0 and labels[row, y - 1, x]:
                        best = _join(parent, best, labels[row, y - 1, x])
                    if above[y, x]:
                        best = _join(parent, best, above[y, x])
                if best == 0:
                    number += 1
                    if number >= parent.size:
                        return -1
                    best = number
                    parent[best] = best
                    size[best] = 0
                    flags[best] = 0
                    top[best] = z
                    bottom[best] = z
                labels[row, y, x] = best
                size[best] += 1
                flag = STRONG_FLAG if code > 1 else 0
                if faces:
                    if region[row, y, x] & AT_ANODE:
                        flag |= ANODE_FLAG
                    if region[row, y, x] & AT_CATHODE:
                        flag |= CATHODE_FLAG
                flags[best] |= flag
                bottom[best] = max(bottom[best], z)
        above[:] = labels[row]
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
        self._above = np.zeros(shape, np.int32)
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
        self, first_row: int, codes: NDArray[np.uint8], region: NDArray[np.uint8] | None
    ) -> NDArray[np.int32]:
        """Label the next rows and return their provisional labels.

        Parameters
        ----------
        first_row : int
            Row z of the first of them.
        codes : ndarray, uint8, shape (row, y, x)
            0 background, 1 weak, 2 strong.
        region : ndarray, uint8, optional
            Region bits, for the faces.
        """
        # A row of n voxels has at most (n + 1) / 2 new labels per line of voxels.
        most = codes.shape[0] * codes.shape[1] * (codes.shape[2] // 2 + 1)
        wanted = self._number + min(most, int(np.count_nonzero(codes))) + 2
        if wanted > self._parent.size:
            self._grow_to(max(wanted, 2 * self._parent.size))
        labels = np.empty(codes.shape, np.int32)
        self._number = _label_rows(
            codes,
            codes if region is None else region,
            region is not None,
            self._diagonal,
            first_row,
            self._above,
            self._parent,
            self._size,
            self._flags,
            self._top,
            self._bottom,
            labels,
            self._number,
        )
        return labels

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
