"""One scan as an NXtomo file: virtual datasets on the camera's files, nothing copied.

The definition is https://manual.nexusformat.org/classes/applications/NXtomo.html. The
links are relative, so the folder of an experiment can be moved as a whole.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

IMAGE_KEYS = {"projections": 0, "flats": 1, "flats_after": 1, "darks": 2}
INVALID = 3
IMAGES = "entry/data/data"
TIMESTAMPS = "entry/instrument/NDAttributes/NDArrayTimeStamp"


@dataclass(frozen=True)
class HalfCycleTrace:
    """What the instrument measured during one half-cycle.

    Attributes
    ----------
    time_s, voltage_v, current_ma : ndarray, shape (sample,)
        Seconds since the Unix epoch, by the instrument's clock.
    """

    half_cycle: int
    label: str
    time_s: np.ndarray
    voltage_v: np.ndarray
    current_ma: np.ndarray


@dataclass(frozen=True)
class ScanRecord:
    """What is known of a scan that succeeded.

    Attributes
    ----------
    raw_files : mapping
        The camera's file of ``darks``, ``flats``, ``projections`` and ``flats_after``,
        in the order in which the frames go into the file.
    angles_deg : ndarray, shape (projection,)
        Angle of each projection as recorded.
    bad_frames : mapping
        Indices of the frames of a raw file that are spoilt, by the file's name above.
    facts : mapping
        Value and unit of each reading of the baseline, by name.
    """

    title: str
    sample: str
    beamline: str
    label: str
    scan_number: int
    attempt: int
    simulated: bool
    raw_files: Mapping[str, Path]
    angles_deg: np.ndarray
    pixel_size_um: float
    exposure_time_s: float
    gross_charge_c: float
    net_charge_c: float
    lithium_volume_um3: float
    run_uid: str
    half_cycle: HalfCycleTrace | None = None
    facts: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    bad_frames: Mapping[str, Sequence[int]] = field(default_factory=dict)


def write_nxtomo(path: Path, scan: ScanRecord) -> None:
    """Write the NXtomo file of a scan in one move.

    Raises
    ------
    FileExistsError
        There is such a file already; it was not touched.
    OSError
        A raw file cannot be read or the NXtomo file cannot be written.
    ValueError
        The raw files do not hold what was recorded of the scan.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists; a scan file is never overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with h5py.File(partial, "w", libver="v110") as file:
        _write(file, path.parent, scan)
        file.flush()
    with open(partial, "rb") as written:
        os.fsync(written.fileno())
    partial.replace(path)


def _write(file: h5py.File, folder: Path, scan: ScanRecord) -> None:
    sources = list(scan.raw_files.values())
    shapes = {stream: _shape(source) for stream, source in scan.raw_files.items()}
    if len({shape[1:] for shape in shapes.values()}) != 1:
        raise ValueError(f"scan {scan.scan_number}: frames differ in shape: {shapes}")
    numbers = {stream: shape[0] for stream, shape in shapes.items()}
    if len(scan.angles_deg) != numbers["projections"]:
        raise ValueError(
            f"scan {scan.scan_number}: {numbers['projections']} projections on disk, "
            f"{len(scan.angles_deg)} angles recorded"
        )
    times = np.concatenate([_timestamps(source) for source in sources])

    file.attrs.update(NX_class="NXroot", default="entry", creator="insitu-ct")
    entry = _group(file, "entry", "NXentry", default="data")
    _texts(
        entry,
        title=("SIMULATED: " if scan.simulated else "") + scan.title,
        definition="NXtomo",
        start_time=_iso(times.min()),
        end_time=_iso(times.max() + scan.exposure_time_s),
        experiment_identifier=scan.run_uid,
    )
    instrument = _group(entry, "instrument", "NXinstrument")
    if scan.beamline:
        _texts(instrument, name=scan.beamline)
    _write_source(instrument, scan)
    detector = _group(instrument, "detector", "NXdetector")
    _texts(detector, depends_on=".")
    images = _virtual(detector, "data", IMAGES, sources, folder)
    images.attrs["units"] = "counts"
    keys = np.concatenate(
        [_keys(scan, stream, number) for stream, number in numbers.items()]
    )
    image_key = detector.create_dataset("image_key", data=keys)
    _number(detector, "x_pixel_size", scan.pixel_size_um * 1e-6, "m")
    _number(detector, "y_pixel_size", scan.pixel_size_um * 1e-6, "m")
    _number(detector, "count_time", np.full(len(keys), scan.exposure_time_s), "s")
    frame_times = detector.create_dataset("frame_start_time", data=times)
    frame_times.attrs["units"] = "s"
    frame_times.attrs["start"] = _iso(0.0)

    angles = np.concatenate(
        [_angles(scan, stream, number) for stream, number in numbers.items()]
    )
    rotation_angle = _write_sample(entry, scan, angles)
    _write_data(entry, images, image_key, rotation_angle, scan.pixel_size_um)
    _write_electrochemistry(entry, scan)
    _write_facts(entry, scan)


def _keys(scan: ScanRecord, stream: str, number: int) -> np.ndarray:
    keys = np.full(number, IMAGE_KEYS[stream], "i4")
    bad = list(scan.bad_frames.get(stream, ()))
    if any(not 0 <= index < number for index in bad):
        raise ValueError(
            f"scan {scan.scan_number}: frames {bad} of the {stream} are noted as "
            f"spoilt, {number} are on disk"
        )
    keys[bad] = INVALID
    return keys


def _angles(scan: ScanRecord, stream: str, number: int) -> np.ndarray:
    """Return an angle for each frame; references get that of the nearest projection."""
    if stream == "projections":
        return scan.angles_deg
    order = list(scan.raw_files)
    before = order.index(stream) < order.index("projections")
    return np.full(number, scan.angles_deg[0 if before else -1])


def _write_source(instrument: h5py.Group, scan: ScanRecord) -> None:
    source = _group(instrument, "source", "NXsource")
    _texts(
        source,
        name=scan.beamline or "synchrotron",
        type="Synchrotron X-ray Source",
        probe="x-ray",
        depends_on=".",
    )


def _write_sample(
    entry: h5py.Group, scan: ScanRecord, angles_deg: np.ndarray
) -> h5py.Dataset:
    sample = _group(entry, "sample", "NXsample")
    _texts(
        sample,
        name=scan.sample,
        depends_on="/entry/sample/transformations/rotation",
    )
    rotation_angle = sample.create_dataset("rotation_angle", data=angles_deg)
    rotation_angle.attrs["units"] = "degree"
    transformations = _group(sample, "transformations", "NXtransformations")
    rotation = transformations.create_dataset("rotation", data=angles_deg)
    rotation.attrs.update(
        units="degree",
        transformation_type="rotation",
        vector=np.array([0.0, 1.0, 0.0]),
        depends_on=".",
    )
    return rotation_angle


def _write_data(
    entry: h5py.Group,
    images: h5py.Dataset,
    image_key: h5py.Dataset,
    rotation_angle: h5py.Dataset,
    pixel_size_um: float,
) -> None:
    data = _group(entry, "data", "NXdata", signal="data")
    data.attrs["axes"] = ["rotation_angle", "y", "x"]
    for index, axis in enumerate(("rotation_angle", "y", "x")):
        data.attrs[f"{axis}_indices"] = index
    for name, target in (
        ("data", images),
        ("image_key", image_key),
        ("rotation_angle", rotation_angle),
    ):
        target.attrs["target"] = target.name
        data[name] = target
    for axis, name in ((1, "y"), (2, "x")):
        size = images.shape[axis]
        metres = (np.arange(size) - (size - 1) / 2) * pixel_size_um * 1e-6
        _number(data, name, metres, "m")


def _write_electrochemistry(entry: h5py.Group, scan: ScanRecord) -> None:
    group = _group(entry, "electrochemistry", "NXcollection")
    _texts(group, label=scan.label)
    group["simulated"] = np.int8(scan.simulated)
    _number(group, "gross_charge", scan.gross_charge_c, "C")
    _number(group, "net_charge", scan.net_charge_c, "C")
    _number(group, "lithium_volume", scan.lithium_volume_um3, "um^3")
    trace = scan.half_cycle
    if trace is None:
        return
    group["half_cycle"] = trace.half_cycle
    _texts(group, half_cycle_label=trace.label)
    _number(group, "time", trace.time_s, "s")
    group["time"].attrs["start"] = _iso(0.0)
    _number(group, "voltage", trace.voltage_v, "V")
    _number(group, "current", np.asarray(trace.current_ma) * 1e-3, "A")


def _write_facts(entry: h5py.Group, scan: ScanRecord) -> None:
    group = _group(entry, "baseline", "NXcollection")
    group["scan_number"] = scan.scan_number
    group["attempt"] = scan.attempt
    for name, (value, units) in scan.facts.items():
        if isinstance(value, str):
            _texts(group, **{name: value})
        elif isinstance(value, bool | int | float | list | tuple):
            try:
                group[name] = np.asarray(value)
            except TypeError:
                continue  # a list of mixed kinds is in the documents
            if units:
                group[name].attrs["units"] = units


def _virtual(
    group: h5py.Group, name: str, dataset: str, sources: list[Path], folder: Path
) -> h5py.Dataset:
    shapes, kinds = [], set()
    for source in sources:
        with h5py.File(source, "r", swmr=True) as file:
            shapes.append(_dataset(file, dataset, source).shape)
            kinds.add(_dataset(file, dataset, source).dtype)
    if len(kinds) != 1:
        raise ValueError(f"frames differ in type: {sorted(map(str, kinds))}")
    layout = h5py.VirtualLayout(
        (sum(shape[0] for shape in shapes), *shapes[0][1:]), kinds.pop()
    )
    start = 0
    for source, shape in zip(sources, shapes, strict=True):
        relative = os.path.relpath(source, folder)
        layout[start : start + shape[0]] = h5py.VirtualSource(relative, dataset, shape)
        start += shape[0]
    return group.create_virtual_dataset(name, layout)


def _shape(path: Path) -> tuple[int, ...]:
    with h5py.File(path, "r", swmr=True) as file:
        return _dataset(file, IMAGES, path).shape


def _timestamps(path: Path) -> np.ndarray:
    with h5py.File(path, "r", swmr=True) as file:
        return _dataset(file, TIMESTAMPS, path)[:]


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{path}: no dataset {name}")
    return dataset


def _group(parent: h5py.Group, name: str, nx_class: str, **attributes: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    group.attrs.update(attributes)
    return group


def _texts(group: h5py.Group, **texts: str) -> None:
    for name, text in texts.items():
        group[name] = text


def _number(group: h5py.Group, name: str, value: Any, units: str) -> None:
    group[name] = np.asarray(value, dtype=np.float64)
    group[name].attrs["units"] = units


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")
