import numpy as np
import pytest

from analysis.errors import DataError
from analysis.sinogram_store import STEP, SinogramStore

# A band of 16 rows is 2 * 16 * 24 bytes a frame, three bands here.
DISK_OF_FIVE, DISK_OF_ONE = 5 * 3 * 768, 0


@pytest.mark.parametrize(
    "limit",
    [DISK_OF_ONE, DISK_OF_FIVE, 10**9],
    ids=["frame by frame", "five at once", "memory"],
)
def test_frames_come_out_as_sinograms(tmp_path, monkeypatch, limit):
    monkeypatch.setattr("analysis.sinogram_store.READ_BYTES", 10 * 768)
    frames = np.random.default_rng(0).uniform(-0.9, 7.4, (37, 35, 24))
    frames = frames.astype(np.float32)
    with SinogramStore(
        37, 35, 24, directory=tmp_path, memory_limit_bytes=limit
    ) as store:
        assert store.on_disk == (limit < 10**9)
        for index, frame in enumerate(frames):
            store.put(index, frame)
        bands = np.concatenate([store.band(band) for band in range(store.num_bands)])
        again = store.frame(36)
        store.end()
        assert np.array_equal(store.rows(13, 34), bands[13:34])
        assert np.array_equal(store.rows(17, 19), bands[17:19])
        with pytest.raises(IndexError, match="rows 30 to 36; there are 35"):
            store.rows(30, 36)
        part = store.frame(36, 14, 33)  # from the first band into the third
        with pytest.raises(IndexError, match="rows 14 to 36; there are 35"):
            store.frame(36, 14, 36)
    assert np.array_equal(part, again[14:33])
    # Half a step of the 16-bit integers, and single precision.
    assert np.abs(bands - frames.transpose(1, 0, 2)).max() < 0.51 * STEP
    assert np.abs(again - frames[36]).max() < 0.51 * STEP
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [0, 10**9], ids=["disk", "memory"])
def test_angles_whose_frame_never_came_are_left_out(tmp_path, limit):
    with SinogramStore(
        9, 4, 3, directory=tmp_path, memory_limit_bytes=limit, frames_per_write=2
    ) as store:
        for index in (0, 1, 4, 7):
            store.put(index, np.full((4, 3), index / 10, np.float32))
        assert list(np.flatnonzero(store.received)) == [0, 1, 4, 7]
        band = store.band(0)
    assert band.shape == (4, 4, 3)
    assert np.allclose(band[0, :, 0], [0.0, 0.1, 0.4, 0.7], atol=STEP)


def test_values_beyond_the_range_stay_at_its_ends(tmp_path):
    with SinogramStore(1, 1, 2, directory=tmp_path, memory_limit_bytes=10**6) as store:
        store.put(0, np.array([[-5.0, 50.0]], np.float32))
        assert np.allclose(store.band(0), [[[-1.0, 7.5]]], atol=STEP)


def test_more_frames_than_promised_are_refused(tmp_path):
    with (
        SinogramStore(3, 2, 2, directory=tmp_path, memory_limit_bytes=0) as store,
        pytest.raises(DataError, match="frame 3 of a scan of 3"),
    ):
        store.put(3, np.zeros((2, 2), np.float32))


def test_a_frame_after_the_end_is_refused(tmp_path):
    with SinogramStore(3, 2, 2, directory=tmp_path, memory_limit_bytes=0) as store:
        store.put(0, np.zeros((2, 2), np.float32))
        store.end()
        with pytest.raises(DataError, match="frame 1 came after the end"):
            store.put(1, np.zeros((2, 2), np.float32))


def test_a_full_disk_is_told_before_the_scan(tmp_path):
    with pytest.raises(DataError, match="GB free.*need"):
        SinogramStore(10**6, 10**5, 10**4, directory=tmp_path, memory_limit_bytes=0)
