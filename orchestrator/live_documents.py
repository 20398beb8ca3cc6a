"""Documents of the RunEngine that tell the live analysis of scans."""

from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from analysis.measurement.lithium import lithium_volume_um3
from analysis.messages import ScanFinished, ScanStarted
from orchestrator.layout import Layout, scan_id
from orchestrator.live import LiveAnalysis


class LiveDocuments:
    """RunEngine callback that tells `LiveAnalysis` of scans; it only notes.

    Parameters
    ----------
    live : LiveAnalysis
        Who is told.
    scan_of : callable
        Makes the `ScanStarted` of a tomogram from its start document.
    """

    def __init__(
        self,
        live: LiveAnalysis,
        scan_of: Callable[[Mapping[str, Any]], ScanStarted],
    ):
        self._live = live
        self._scan_of = scan_of
        self._scan: ScanStarted | None = None
        self._streams: dict[str, str] = {}
        self._images: set[str] = set()
        self._angles: tuple[float, ...] = ()
        self._frames: dict[Path, int] = {}
        self._told = True

    def replay(
        self,
        documents: Iterable[tuple[str, Mapping[str, Any]]],
        wanted: Container[str],
    ) -> None:
        """Take the documents of earlier sessions.

        Parameters
        ----------
        documents : iterable of (name, document)
            All of them, in order.
        wanted : container of str
            Uids of the runs to be analysed again; of others only the darks and
            flats that later scans may use are noted.
        """
        for name, document in documents:
            if name == "start":
                self._told = document["uid"] in wanted
            self(name, document)
        self._scan = None
        self._told = True

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Take one document."""
        if name == "start":
            self._start(document)
        elif self._scan is None:
            return
        elif name == "descriptor":
            self._streams[document["uid"]] = document["name"]
        elif name == "stream_resource":
            if document["data_key"].endswith("image"):
                self._images.add(document["uid"])
        elif name == "stream_datum":
            self._stream_datum(self._scan, document)
        elif name == "event":
            if "rotation_angle_deg" in document["data"]:
                if self._streams.get(document["descriptor"]) == "angles":
                    angles = document["data"]["rotation_angle_deg"]
                    self._angles = tuple(float(angle) for angle in angles)
        elif name == "stop":
            self._tell_finished(
                ScanFinished(
                    self._scan.scan_id,
                    success=document["exit_status"] == "success",
                    angles_deg=self._angles,
                    reason=document.get("reason", ""),
                )
            )
            self._scan = None

    def _tell_finished(self, finished: ScanFinished) -> None:
        if self._told:
            self._live.scan_finished(finished)

    def _tell_frames(self, scan_id: str, stream: str, stop: int) -> None:
        if self._told:
            self._live.frames_written(scan_id, stream, stop)

    def _start(self, document: Mapping[str, Any]) -> None:
        self._scan = None
        if document.get("plan_name") != "tomogram":
            return
        self._scan = self._scan_of(document)
        self._streams, self._images, self._angles = {}, set(), ()
        if self._told:
            self._live.scan_started(self._scan)
        for stream, path in _files(self._scan).items():
            if path in self._frames:  # darks or flats of an earlier scan
                self._tell_frames(self._scan.scan_id, stream, self._frames[path])

    def _stream_datum(self, scan: ScanStarted, document: Mapping[str, Any]) -> None:
        stream = self._streams.get(document["descriptor"])
        if document["stream_resource"] not in self._images or stream is None:
            return
        stop = document["indices"]["stop"]
        path = _files(scan).get(stream)
        if path is not None and stream != "projections":
            self._frames[path] = stop
        self._tell_frames(scan.scan_id, stream, stop)


def _files(scan: ScanStarted) -> dict[str, Path]:
    files = {
        "darks": scan.darks_file,
        "flats": scan.flats_file,
        "projections": scan.projections_file,
        "flats_after": scan.flats_after_file,
    }
    return {stream: path for stream, path in files.items() if path is not None}


def scan_started(start: Mapping[str, Any], layout: Layout) -> ScanStarted:
    """Return what the worker is told of a tomogram, from its start document."""
    files = {name: Path(path) for name, path in start["raw_files"].items()}
    first, step, number = start["nominal_angles_deg"]
    return ScanStarted(
        scan_id=scan_id(start["scan_number"], start["attempt"]),
        scan_number=start["scan_number"],
        label=start["label"],
        attempt=start["attempt"],
        darks_file=files["darks"],
        flats_file=files["flats"],
        projections_file=files["projections"],
        flats_after_file=files.get("flats_after"),
        nominal_angles_deg=(float(first), float(step), int(number)),
        pixel_size_um=start["scan"]["pixel_size_um"],
        tomogram_file=layout.tomogram_file(start["scan_number"]),
        preview_dir=layout.preview_dir(start["scan_number"]),
        lithium_volume_um3=lithium_volume_um3(start["gross_charge_c"]),
        lithium_volume_net_um3=lithium_volume_um3(start["net_charge_c"]),
    )
