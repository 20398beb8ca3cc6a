"""What is written of a run once it ended: NXtomo file or voltage file.

A thread of its own does it: the raw frames and the documents are already safe, so a
failure here is shown and counted and stops nothing. A file that exists is kept, and
`insitu-ct resume` writes one that is missing from the documents.
"""

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.measurement.lithium import lithium_volume_um3
from orchestrator.layout import Layout
from orchestrator.nxtomo_file import (
    IMAGE_KEYS,
    HalfCycleTrace,
    ScanRecord,
    write_nxtomo,
)

_log = logging.getLogger(__name__)

_SAMPLES = {
    "time_s": "potentiostat_time_s",
    "voltage_v": "potentiostat_voltage_v",
    "current_ma": "potentiostat_current_ma",
}
_BAD_FRAMES = {f"{stream}_bad_frames": stream for stream in IMAGE_KEYS}


@dataclass
class _Run:
    """The documents of one run that matter here."""

    start: Mapping[str, Any]
    streams: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    angles_deg: np.ndarray | None = None
    facts: dict[str, tuple[Any, str]] = field(default_factory=dict)
    bad_frames: dict[str, list[int]] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(
        default_factory=lambda: {name: [] for name in _SAMPLES}
    )

    def descriptor(self, document: Mapping[str, Any]) -> None:
        self.streams[document["uid"]] = document["name"]
        for key, about in document["data_keys"].items():
            self.units[key] = about.get("units") or ""

    def event(self, document: Mapping[str, Any]) -> None:
        stream = self.streams.get(document["descriptor"])
        data = document["data"]
        if stream == "baseline":
            for key, value in data.items():
                self.facts.setdefault(key, (value, self.units.get(key, "")))
        elif stream == "angles":
            self.angles_deg = np.asarray(data["rotation_angle_deg"], dtype=float)
        elif stream == "conditions":
            for key in data.keys() & _BAD_FRAMES.keys():
                self.bad_frames[_BAD_FRAMES[key]] = [int(index) for index in data[key]]
        elif stream == "electrochemistry":
            for name, key in _SAMPLES.items():
                self.samples[name].append(float(data[key]))

    def event_page(self, document: Mapping[str, Any]) -> None:
        if self.streams.get(document["descriptor"]) == "electrochemistry":
            for name, key in _SAMPLES.items():
                self.samples[name].extend(map(float, document["data"][key]))

    def trace(self) -> HalfCycleTrace:
        return HalfCycleTrace(
            half_cycle=self.start["half_cycle"],
            label=self.start["label"],
            **{name: np.array(values) for name, values in self.samples.items()},
        )


class Archive:
    """Write scan and voltage files behind the RunEngine.

    Parameters
    ----------
    layout : Layout
        Where they go.
    title, sample, beamline : str
        For the scan files.
    on_fault : callable
        Called with one line when a file could not be written.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        title: str,
        sample: str,
        beamline: str,
        on_fault: Callable[[str], None],
    ):
        self.failed = 0
        self._layout = layout
        self._title = title
        self._sample = sample
        self._beamline = beamline
        self._on_fault = on_fault
        self._documents: queue.SimpleQueue[tuple[str, Mapping[str, Any]] | None] = (
            queue.SimpleQueue()
        )
        self._run: _Run | None = None
        self._current = ""
        self._parts: dict[int, list[int]] = {}
        self._half_cycle_so_far: HalfCycleTrace | None = None
        self._thread = threading.Thread(
            target=self._write_all, name="archive", daemon=True
        )
        self._thread.start()

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Take one document; it only enqueues. Files that exist are kept."""
        self._documents.put((name, document))

    @property
    def waiting(self) -> int:
        """Documents that are not handled yet."""
        return self._documents.qsize()

    def close(self, timeout_s: float = 60.0) -> None:
        """Write what is left and end."""
        self._documents.put(None)
        self._thread.join(timeout_s)

    def _write_all(self) -> None:
        while (item := self._documents.get()) is not None:
            name, document = item
            try:
                self._take(name, document)
            except Exception as error:  # one file; the next ones must be written
                self.failed += 1
                _log.exception("a %s document could not be archived", name)
                self._on_fault(f"the file of {self._current} was not written: {error}")
                self._run = None

    def _take(self, name: str, document: Mapping[str, Any]) -> None:
        if name == "start":
            self._cut()
            self._run = _Run(document)
            plan = str(document.get("plan_name", "run")).replace("_", "-")
            self._current = f"{plan} {document.get('label', '')}"
        elif self._run is None:
            return
        elif name in ("descriptor", "event", "event_page"):
            getattr(self._run, name)(document)
        elif name == "stop":
            run, self._run = self._run, None
            plan = run.start.get("plan_name")
            if plan == "half_cycle":
                self._half_cycle(run)
            elif plan == "tomogram" and document["exit_status"] == "success":
                self._tomogram(run)

    def _cut(self) -> None:
        """Write what is known of a half-cycle whose end was never recorded."""
        run, self._run = self._run, None
        if run is not None and run.start.get("plan_name") == "half_cycle":
            self._half_cycle(run)

    def _half_cycle(self, run: _Run) -> None:
        trace = run.trace()
        if not len(trace.time_s):
            return  # cut before its first sample
        self._half_cycle_so_far = _joined(self._half_cycle_so_far, trace)
        # A half-cycle cut into sub-steps gives a file for each of them.
        parts = self._parts.setdefault(trace.half_cycle, [])
        if run.start["step_index"] not in parts:
            parts.append(run.start["step_index"])
        path = self._layout.electrochemistry_file(
            trace.half_cycle,
            run.start.get("attempt", 0),
            part=parts.index(run.start["step_index"]),
        )
        if path.exists():
            return
        from analysis.voltage_files.bdf import write_bdf
        from analysis.voltage_files.record import VoltageRecord

        number = np.full(len(trace.time_s), trace.half_cycle, dtype=np.int64)
        write_bdf(
            path,
            VoltageRecord(
                time_s=trace.time_s,
                voltage_v=trace.voltage_v,
                current_ma=trace.current_ma,
                step_id=number,
                cycle_count=(number + 1) // 2,
                control="galvanostatic",
                source="insitu-ct",
            ),
        )

    def _tomogram(self, run: _Run) -> None:
        start = run.start
        if run.angles_deg is None:
            raise ValueError(f"scan {start['scan_number']} recorded no angles")
        simulated = bool(start.get("simulated"))
        path = self._layout.scan_file(start["scan_number"])
        if path.exists():
            return
        write_nxtomo(
            path,
            ScanRecord(
                title=f"{self._title}, label {start['label']}".strip(", "),
                sample=self._sample,
                beamline=self._beamline,
                label=start["label"],
                scan_number=start["scan_number"],
                attempt=start["attempt"],
                simulated=simulated,
                raw_files=_raw_files(start),
                angles_deg=run.angles_deg,
                pixel_size_um=start["scan"]["pixel_size_um"],
                exposure_time_s=start["scan"]["exposure_time_s"],
                gross_charge_c=start["gross_charge_c"],
                net_charge_c=start["net_charge_c"],
                lithium_volume_um3=lithium_volume_um3(start["gross_charge_c"]),
                run_uid=start["uid"],
                half_cycle=self._half_cycle_so_far,
                facts=run.facts,
                bad_frames=run.bad_frames,
            ),
        )


def _joined(before: HalfCycleTrace | None, trace: HalfCycleTrace) -> HalfCycleTrace:
    """Return the trace of a half-cycle that was driven in several runs."""
    if before is None or before.half_cycle != trace.half_cycle:
        return trace
    return replace(
        trace,
        **{
            name: np.concatenate([getattr(before, name), getattr(trace, name)])
            for name in _SAMPLES
        },
    )


def _raw_files(start: Mapping[str, Any]) -> dict[str, Path]:
    """Return the camera's files in the order in which they were written."""
    order = ["darks", "flats", "projections", "flats_after"]
    if start["scan"].get("flats") == "after":
        order = ["darks", "projections", "flats"]
    files = start["raw_files"]
    return {name: Path(files[name]) for name in order if name in files}
