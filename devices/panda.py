"""Position compare on a PandABox: PCOMP1 triggers, PCAP latches, the IOC writes a file.

Drives the blocks PCOMP1, PCAP and INENC1 and the DATA records of PandABlocks-ioc. The
camera's trigger output must be wired to ``PCOMP1.OUT`` in the PandA's design. PCOMP
counts encoder counts; INENC1's scale and offset say what a count is in degrees.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from ophyd import Component as Cpt
from ophyd import EpicsSignal, EpicsSignalRO
from ophyd.status import StatusBase

from .errors import DeviceError, FramesLostError, WriterError
from .position_compare import (
    PULSE_WIDTH_FRAC,
    SET_TIMEOUT_S,
    PositionCompare,
    TriggerSeries,
)
from .waiting import SignalStatus, in_thread, write_settings

DATASET = "rotation_angle_deg"
POSITIVE, NEGATIVE = 0, 1
RISING, ABSOLUTE = 0, 0
DIRECTORIES_TO_MAKE = -5  # at most so many, as with an areaDetector writer
# A step that is no whole number of counts adds up; so much of a step is accepted.
DRIFT_MAX_STEPS = 0.5
FLUSH_PERIOD_S = 0.2
HEALTHY = "OK"


class PandA(PositionCompare):
    """PCOMP1 and PCAP of a PandABox, and the file its IOC writes."""

    # encoder
    encoder_scale = Cpt(EpicsSignalRO, "INENC1:VAL:SCALE", kind="config")
    encoder_offset = Cpt(EpicsSignalRO, "INENC1:VAL:OFFSET", kind="config")
    encoder_units = Cpt(EpicsSignalRO, "INENC1:VAL:UNITS", string=True, kind="config")
    encoder_capture = Cpt(EpicsSignal, "INENC1:VAL:CAPTURE", string=True, kind="config")
    encoder_dataset = Cpt(
        EpicsSignal, "INENC1:VAL:DATASET", string=True, kind="omitted"
    )
    # comparator, in counts
    source = Cpt(EpicsSignal, "PCOMP1:INP", string=True, kind="config")
    enable = Cpt(EpicsSignal, "PCOMP1:ENABLE", string=True, kind="config")
    relative = Cpt(EpicsSignal, "PCOMP1:RELATIVE", kind="config")
    direction = Cpt(EpicsSignal, "PCOMP1:DIR", kind="config")
    pre_start = Cpt(EpicsSignal, "PCOMP1:PRE_START", kind="config")
    pulse_start = Cpt(EpicsSignal, "PCOMP1:START", kind="config")
    pulse_step = Cpt(EpicsSignal, "PCOMP1:STEP", kind="config")
    pulse_width = Cpt(EpicsSignal, "PCOMP1:WIDTH", kind="config")
    pulse_number = Cpt(EpicsSignal, "PCOMP1:PULSES", kind="config")
    produced = Cpt(EpicsSignalRO, "PCOMP1:PRODUCED", kind="omitted", auto_monitor=True)
    compare_health = Cpt(EpicsSignalRO, "PCOMP1:HEALTH", string=True, kind="omitted")
    # capture
    capture_enable = Cpt(EpicsSignal, "PCAP:ENABLE", string=True, kind="config")
    capture_gate = Cpt(EpicsSignal, "PCAP:GATE", string=True, kind="config")
    capture_trigger = Cpt(EpicsSignal, "PCAP:TRIG", string=True, kind="config")
    capture_edge = Cpt(EpicsSignal, "PCAP:TRIG_EDGE", kind="config")
    capture_health = Cpt(EpicsSignalRO, "PCAP:HEALTH", string=True, kind="omitted")
    arm = Cpt(EpicsSignal, "PCAP:ARM", kind="omitted")
    armed = Cpt(EpicsSignalRO, "PCAP:ACTIVE", kind="omitted", auto_monitor=True)
    # the file
    directory = Cpt(EpicsSignal, "DATA:HDF_DIRECTORY", string=True, kind="omitted")
    create_directory = Cpt(EpicsSignal, "DATA:CREATE_DIRECTORY", kind="omitted")
    directory_exists = Cpt(EpicsSignalRO, "DATA:DIRECTORY_EXISTS", kind="omitted")
    file_name = Cpt(EpicsSignal, "DATA:HDF_FILE_NAME", string=True, kind="omitted")
    full_file_path = Cpt(
        EpicsSignalRO, "DATA:HDF_FULL_FILE_PATH", string=True, kind="omitted"
    )
    capture_mode = Cpt(EpicsSignal, "DATA:CAPTURE_MODE", string=True, kind="omitted")
    flush_period = Cpt(EpicsSignal, "DATA:FLUSH_PERIOD", kind="omitted")
    num_capture = Cpt(EpicsSignal, "DATA:NUM_CAPTURE", kind="omitted")
    num_latched = Cpt(
        EpicsSignalRO, "DATA:NUM_CAPTURED", kind="omitted", auto_monitor=True
    )
    writing = Cpt(EpicsSignal, "DATA:CAPTURE", kind="omitted", auto_monitor=True)
    message = Cpt(EpicsSignalRO, "DATA:STATUS", string=True, kind="omitted")

    def check_series(self, series: TriggerSeries) -> None:
        """Raise unless the step is a whole number of counts and the file is new."""
        units = str(self.encoder_units.get()).strip().lower()
        if units not in ("deg", "degree", "degrees", ""):
            raise DeviceError(
                f"{self.name}: {self.encoder_units.pvname} is '{units}'; its encoder"
                " must be scaled to degrees: set INENC1's SCALE, OFFSET and UNITS"
            )
        step_counts = self._counts(series.step_deg)
        drift = abs(step_counts - round(step_counts)) * series.number
        if round(step_counts) == 0 or drift > DRIFT_MAX_STEPS * abs(step_counts):
            raise ValueError(
                f"{self.name} was asked for a trigger every {series.step_deg:g} deg,"
                f" {step_counts:g} encoder counts; it fires at whole counts, which adds"
                f" up to {drift:.3g} counts over {series.number} triggers: choose"
                " num_projections so that the step is a whole number of counts"
            )
        file = series.angles_file
        if file is None or not file.is_absolute():
            raise ValueError(
                f"{self.name} hands its angles over in a file; it was given {file} and"
                " needs an absolute path"
            )
        if file.exists():
            # The IOC itself would overwrite it without a word.
            raise FileExistsError(
                f"{self.name} was asked to write {file}, which exists; raw data are"
                " never overwritten: use the next attempt"
            )

    def write_series(self, series: TriggerSeries) -> StatusBase:
        """Write blocks and file of a series; the file is opened by kickoff."""
        return in_thread(self, lambda: self._write(series), 3 * SET_TIMEOUT_S)

    def _write(self, series: TriggerSeries) -> None:
        file = series.angles_file
        if file is None:
            raise ValueError(f"{self.name} needs angles_file")
        step = round(self._counts(series.step_deg))
        first = round(self._counts(series.start_deg - _number(self.encoder_offset)))
        write_settings(
            self.name,
            [
                (self.source, "INENC1.VAL"),
                # Armed PCAP enables PCOMP; PCOMP's end disarms PCAP, in hardware.
                (self.enable, "PCAP.ACTIVE"),
                (self.capture_enable, "PCOMP1.ACTIVE"),
                (self.capture_gate, "ONE"),
                (self.capture_trigger, "PCOMP1.OUT"),
                (self.capture_edge, RISING),
                (self.relative, ABSOLUTE),
                (self.direction, POSITIVE if step > 0 else NEGATIVE),
                (self.pre_start, 0),
                (self.pulse_start, first),
                (self.pulse_step, abs(step)),
                (self.pulse_width, max(1, math.floor(abs(step) * PULSE_WIDTH_FRAC))),
                (self.pulse_number, series.number),
                (self.encoder_capture, "Value"),
                (self.encoder_dataset, DATASET),
                (self.create_directory, DIRECTORIES_TO_MAKE),
                (self.file_name, file.name),
                (self.capture_mode, "FIRST_N"),
                (self.flush_period, FLUSH_PERIOD_S),
                (self.num_capture, series.number),
            ],
        )
        # The IOC looks for the directory when the path is written, so this is last.
        self.directory.set(str(file.parent)).wait(SET_TIMEOUT_S)
        self._check_file(file)

    def kickoff(self) -> SignalStatus:
        """Open the file, then arm; done when PCAP says that it is armed."""
        if self._series is None:
            raise RuntimeError(f"{self.name} has no series; call prepare first")
        # PCAP's data go to whoever listens when it is armed: the writer comes first.
        opened = SignalStatus(
            self,
            self.writing,
            lambda writing: writing == 1,
            timeout_s=SET_TIMEOUT_S,
            what="its IOC to open the file of the angles",
            run=False,
        )
        armed = self.when_armed()
        opened.add_callback(lambda status: self._opened(status, armed))
        self.writing.put(1, wait=False)
        return armed

    def _opened(self, opened: StatusBase, armed: SignalStatus) -> None:
        error: Any = opened.exception()
        if error is None and self._series is None:
            error = DeviceError(f"{self.name} was stopped before it was armed")
        if error is None:
            self.put_armed(True)
        else:
            armed.fail(error)

    def _check_file(self, file: Path) -> None:
        if not self.directory_exists.get(use_monitor=False):
            raise WriterError(
                f"{self.name}'s IOC cannot see or make {file.parent}"
                f" ({self.message.get(use_monitor=False)}): mount it there or give it"
                " the right to write"
            )
        path = str(self.full_file_path.get(use_monitor=False))
        if path != str(file):
            raise WriterError(
                f"{self.name}'s IOC would write '{path}' instead of {file}: another"
                " client sets its file, or the path is too long for its records"
            )

    def put_armed(self, armed: bool) -> None:
        """Arm PCAP, or disarm it and close the file."""
        self.arm.put(int(armed), wait=False)
        if not armed:
            self.writing.put(0, wait=False)

    def num_triggers(self) -> int:
        """Return how many triggers were fired since it was armed."""
        produced: Any = self.produced.get(use_monitor=False)
        return int(produced)

    def latched_deg(self) -> NDArray[np.float64]:
        """Return the latched encoder readings, out of the IOC's closed file (deg)."""
        for signal in (self.compare_health, self.capture_health):
            health = str(signal.get(use_monitor=False))
            if health != HEALTHY:
                raise FramesLostError(
                    f"{self.name}: {signal.pvname} says '{health}': slow the scan"
                    " down, check the encoder, then retake"
                )
        path = Path(str(self.full_file_path.get(use_monitor=False)))
        try:
            with h5py.File(path, "r", swmr=True) as file:
                latched = file.get(DATASET)
                if not isinstance(latched, h5py.Dataset):
                    raise WriterError(f"{path} has no dataset {DATASET}: retake")
                return np.array(latched[()], dtype=np.float64)
        except OSError as error:
            raise WriterError(
                f"{path}, where {self.name} wrote its angles, cannot be read"
                f" ({error}): retake"
            ) from error

    def _counts(self, angle_deg: float) -> float:
        scale_deg = _number(self.encoder_scale)
        if not math.isfinite(scale_deg) or scale_deg == 0:
            raise DeviceError(
                f"{self.name}: {self.encoder_scale.pvname} is {scale_deg:g}; it must"
                " be the degrees of one encoder count"
            )
        return angle_deg / scale_deg


def _number(signal: Any) -> float:
    return float(signal.get(use_monitor=False))
