"""The memory limit: how it is shared out, and that what is promised is kept."""

import queue
import tracemalloc

import numpy as np
import pytest

from analysis.errors import DataError
from analysis.ingest import ScanIngest
from analysis.memory import (
    PREVIEW_FRAC,
    RECONSTRUCTION_FRAC,
    STORE_FRAC,
    portion,
    share_bytes,
)
from analysis.messages import FramesWritten, ScanStarted
from analysis.pipeline import reconstruct
from analysis.preview import PreviewStack
from analysis.settings import AnalysisSettings, ReconstructionSettings
from analysis.worker import _Listener

PAPER = {
    "engine": "gridrec",
    "num_angles": 2400,
    "width_px": 2560,
    "rotation_axis_px": 1279.5,
    "size_px": 2560,
}


def test_two_scans_a_preview_and_the_arithmetic_fill_the_limit_and_no_more():
    assert 2 * STORE_FRAC + PREVIEW_FRAC + RECONSTRUCTION_FRAC == pytest.approx(1.0)
    assert share_bytes(8.0, 1.0) == 8 * 2**30 - 400 * 2**20
    assert share_bytes(0.25, 0.5) == 0


@pytest.mark.parametrize("limit_gib", [2, 3, 4, 6, 8, 32])
@pytest.mark.parametrize("threads", [1, 2, 16])
def test_a_portion_fits_under_the_limit(limit_gib, threads):
    limit = share_bytes(limit_gib, RECONSTRUCTION_FRAC)
    some = portion(**PAPER, threads=threads, limit_bytes=limit)
    assert some.memory_bytes <= limit
    assert some.threads <= threads
    # By hand: two sets of sinograms, two of slices and one more of 16 bits and an
    # eighth, seven copies of a sinogram in each thread, a grid of 3240 for two slices,
    # and the rays of one share of the angles, 16 lanes of 5120 frequencies.
    sinogram, picture = 4 * 2400 * 2560, 4 * 2560**2
    least = some.rows * 2 * (sinogram + picture) + 7 * some.threads * sinogram
    least += 8 * (some.rows // 2) * 3240**2
    least += 4 * -(-2400 // some.passes) * 5120 * 16
    assert least < some.memory_bytes < 1.25 * least


def test_the_default_limit_takes_sixteen_slices_at_once_on_two_processors():
    limit = share_bytes(8.0, RECONSTRUCTION_FRAC)
    some = portion(**PAPER, threads=2, limit_bytes=limit)
    assert (some.rows, some.passes, some.threads) == (16, 1, 2)


def test_less_memory_makes_smaller_portions():
    sizes = [
        (some.rows, -some.passes)
        for limit_gib in (2, 3, 4, 8)
        for some in [
            portion(
                **PAPER,
                threads=2,
                limit_bytes=share_bytes(limit_gib, RECONSTRUCTION_FRAC),
            )
        ]
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_too_little_memory_is_told_with_numbers():
    # Two slices take 0.6 GiB, more than half of what 1.5 GiB leave.
    limit = share_bytes(1.5, RECONSTRUCTION_FRAC)
    with pytest.raises(DataError, match=r"scan_0001.*2400 .*2560 .* 0\.59 GiB.*0\.55"):
        portion(**PAPER, threads=2, limit_bytes=limit, name="scan_0001_00")


def test_a_third_scan_at_once_goes_to_disk(tmp_path, counts_of, write_frames):
    darks, flats, projections, angles = counts_of(rows=4)
    jobs = queue.Queue()
    listener = _Listener(queue.Queue(), queue.Queue(), AnalysisSettings(), jobs)
    on_disk = []
    for number, waiting in ((1, None), (2, "a scan that waits while one is at work")):
        if waiting:
            jobs.put(waiting)
        name = f"scan_{number:04d}_00"
        files = {
            stream: write_frames(tmp_path / f"{name}_{stream}.h5", frames)
            for stream, frames in (
                ("darks", darks),
                ("flats", flats),
                ("projections", projections),
            )
        }
        started = ScanStarted(
            scan_id=name,
            scan_number=number,
            label=name,
            attempt=0,
            darks_file=files["darks"],
            flats_file=files["flats"],
            projections_file=files["projections"],
            nominal_angles_deg=(0.0, 1.5, len(angles)),
            pixel_size_um=0.8,
            tomogram_file=tmp_path / f"{name}.h5",
            preview_dir=tmp_path / name,
        )
        listener._take(started)
        for stream, stop in (("darks", 5), ("flats", 8), ("projections", 9)):
            listener._take(FramesWritten(name, stream, 0, stop))
        ingest = listener._scans[name].ingest
        on_disk.append(ingest.store.on_disk)
        ingest.close()
    assert on_disk == [False, True]


def test_previews_are_coarser_where_memory_is_short():
    wide = PreviewStack(4, 1080, 1280, 1.0)
    tight = PreviewStack(4, 1080, 1280, 1.0, memory_limit_bytes=2 * 4 * 300 * 300)
    assert wide.binning == 2
    assert tight.binning == 4
    pixels = (1080 // 4) * (1280 // 4)
    assert 2 * 4 * pixels <= 2 * 4 * 300 * 300


@pytest.mark.parametrize(("limit_mib", "rings"), [(40, "response"), (9, "all")])
def test_what_is_held_stays_under_what_was_planned(
    tmp_path, counts_of, limit_mib, rings
):
    darks, flats, projections, angles = counts_of(
        width=192, rows=20, angles_deg=np.arange(200) * 0.9, axis_px=96.0, noise=False
    )
    settings = ReconstructionSettings(
        memory_limit_gib=0.5,
        rings=rings,
        threads=2,
        output="uint16",
        output_range=(-0.1, 0.1),
    )
    with ScanIngest("scan", 200, 0.8, settings, tmp_path) as ingest:
        ingest.darks.add(darks)
        ingest.flats.add(flats)
        for index, frame in enumerate(projections):
            ingest.put(index, frame)
        ingest.end()
        limit = limit_mib * 2**20
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("analysis.pipeline.share_bytes", lambda *_: limit)
            for traced in (False, True):  # what is compiled first is not counted
                if traced:
                    tracemalloc.start()
                try:
                    reconstruct(
                        ingest,
                        angles,
                        96.0,
                        tmp_path / "tomogram.h5",
                        settings,
                        pixel_size_um=0.8,
                    )
                    peak = tracemalloc.get_traced_memory()[1]
                finally:
                    tracemalloc.stop()
    assert 0.2 * limit < peak < limit
