"""The whole chain on NXtomo files, and numeric oracles for it."""

import json

import h5py
import numpy as np
import pytest
from scipy import ndimage

from analysis.engines import EngineUnavailableError, check_engine, engine
from analysis.errors import DataError
from analysis.gridrec import Gridrec
from analysis.pipeline import reconstruct_nxtomo
from analysis.settings import (
    AnalysisSettings,
    DistortionSettings,
    ReconstructionSettings,
)


@pytest.fixture
def nxtomo(tmp_path, counts_of):
    """Write a scan of the phantom as NXtomo; `change` spoils it."""

    def write(change=None, **options):
        darks, flats, projections, angles = counts_of(**options)
        path = tmp_path / "scan.nxs"
        with h5py.File(path, "w") as file:
            entry = file.create_group("entry")
            entry["definition"] = "NXtomo"
            detector = entry.create_group("instrument/detector")
            detector["data"] = np.concatenate([darks, flats, projections])
            numbers = len(darks), len(flats), len(projections)
            detector["image_key"] = np.repeat([2, 1, 0], numbers).astype(np.int32)
            detector["x_pixel_size"] = 0.8e-6
            detector["x_pixel_size"].attrs["units"] = "m"
            turned = np.concatenate([np.zeros(numbers[0] + numbers[1]), angles])
            entry["sample/rotation_angle"] = turned
            if change is not None:
                change(entry)
        return path

    return write


def analysed(path, tmp_path, **settings):
    made = reconstruct_nxtomo(
        path,
        tmp_path / "out",
        AnalysisSettings(reconstruction=ReconstructionSettings(**settings)),
        measure=False,
    )
    json.dumps(made)  # plain values, as analysis.json needs them
    with h5py.File(made["tomogram_file"]) as file:
        return made, file["entry/data/data"][()]


def exact_slice(oracle, width=96, axis_px=48.3):
    angles = np.arange(0, 180, 1.5)
    sinogram = oracle.phantom_sinogram(width, angles, axis_px, scale=0.02)
    return oracle.exact_fbp(sinogram, angles, axis_px)


def error(made, exact):
    inside = made != 0
    return np.sqrt(((made - exact)[inside] ** 2).mean() / (exact[inside] ** 2).mean())


def test_counts_become_attenuation_per_pixel(nxtomo, tmp_path, oracle):
    plain = {"rings": "none", "air_columns_px": 0, "rotation_axis_px": 48.3}
    made, volume = analysed(nxtomo(noise=False), tmp_path, **plain)
    assert made["shape"] == [20, 96, 96] == list(volume.shape)
    assert made["pixels"]["clamped"] == 0
    # The last row of the phantom is at full height; 1 %: whole counts, 16 bits.
    assert error(volume[-1], exact_slice(oracle)) < 0.01


def test_the_default_chain_keeps_the_phantom(nxtomo, tmp_path, oracle):
    made, volume = analysed(nxtomo(), tmp_path)
    assert made["rotation_axis_px"] == pytest.approx(48.3, abs=0.1)
    # Shot noise of 20000 counts is 12 % in a voxel of 96 columns at 120 angles.
    assert error(ndimage.gaussian_filter(volume[-1], 1.0), exact_slice(oracle)) < 0.25


@pytest.mark.parametrize("binning", [2, 4])
def test_binning_makes_larger_voxels_of_the_same_sample(
    nxtomo, tmp_path, oracle, binning
):
    made, volume = analysed(
        nxtomo(noise=False), tmp_path, binning=binning, rotation_axis_px=48.3
    )
    assert volume.shape == (20 // binning, 96 // binning, 96 // binning)
    assert made["rotation_axis_px"] == pytest.approx(48.3)
    whole = exact_slice(oracle)[24:72, 24:72].mean()
    middle = slice(24 // binning, 72 // binning)
    # Attenuation is per pixel length, which has grown.
    assert volume[-1, middle, middle].mean() / binning == pytest.approx(whole, rel=0.05)


def drifting_beam(entry):
    """Let the beam of each pixel drift by 5 % at most; flats before and after."""
    detector = entry["instrument/detector"]
    frames = detector["data"][()].astype(float) - 100
    pattern = np.random.default_rng(5).uniform(-0.05, 0.05, frames.shape[1:])
    share = np.concatenate([np.zeros(9), np.linspace(0, 1, len(frames) - 13)])
    order = [*range(9), *range(13, len(frames)), *range(9, 13)]
    share = np.concatenate([share, np.ones(4)])[:, None, None]
    detector["data"][...] = np.rint(frames[order] * np.exp(share * pattern)) + 100
    detector["data"][:5] = 100
    detector["image_key"][...] = detector["image_key"][()][order]
    angles = entry["sample/rotation_angle"]
    angles[...] = angles[()][order]


def test_flats_before_and_after_are_interpolated(nxtomo, tmp_path, oracle):
    plain = {"rings": "none", "air_columns_px": 0, "rotation_axis_px": 48.3}
    path = nxtomo(drifting_beam, noise=False)
    _, volume = analysed(path, tmp_path, **plain)
    with h5py.File(path, "a") as file:
        file["entry/instrument/detector/image_key"][-4:] = 3
    _, before_only = analysed(path, tmp_path, **plain)
    exact = exact_slice(oracle)
    # As without a drift: whole counts, 16 bits, and the frames' even clock.
    assert error(volume[-1], exact) < 0.015
    assert error(before_only[-1], exact) > 0.05


def test_rows_are_cut_out(nxtomo, tmp_path):
    path = nxtomo(noise=False)
    settings = {"rotation_axis_px": 48.3, "rings": "none", "air_columns_px": 0}
    _, whole = analysed(path, tmp_path, **settings)
    _, some = analysed(path, tmp_path, rows=(6, 14), **settings)
    assert np.allclose(some, whole[6:14], atol=1e-6)
    with pytest.raises(DataError, match="rows 6 to 30.*frames have 20"):
        analysed(path, tmp_path, rows=(6, 30))


def test_a_lens_that_bends_nothing_changes_nothing(nxtomo, tmp_path):
    path = nxtomo(noise=False)
    settings = {"rotation_axis_px": 48.3, "rings": "none"}
    plain = DistortionSettings(centre_x_px=47, centre_y_px=9, coefficients=(1.0, 0.0))
    _, without = analysed(path, tmp_path, **settings)
    _, corrected = analysed(path, tmp_path, distortion=plain, **settings)
    assert np.allclose(without, corrected, atol=1e-5)


def test_sinograms_on_disk_give_the_same_tomogram(nxtomo, tmp_path, monkeypatch):
    path = nxtomo()
    _, in_memory = analysed(path, tmp_path)
    monkeypatch.setattr("analysis.ingest.STORE_FRAC", 1e-5)
    _, on_disk = analysed(path, tmp_path)
    assert np.array_equal(in_memory, on_disk)


def spoilt_frame(entry):
    frames = entry["instrument/detector/data"][()].astype(np.float32)
    frames[20, 3, 50] = np.nan
    frames[25] = np.nan
    frames[25, 0, 0] = 1.0
    del entry["instrument/detector/data"]
    entry["instrument/detector/data"] = frames


def test_values_that_are_no_numbers_spoil_nothing(nxtomo, tmp_path):
    made, volume = analysed(nxtomo(spoilt_frame), tmp_path)
    assert made["pixels"]["non_finite"] == 20 * 96
    assert np.isfinite(volume).all()


def flats_like_darks(entry):
    entry["instrument/detector/data"][5:13] = 100


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        (flats_like_darks, {}, "scan.nxs: flats are not above darks"),
        (None, {"rotation_axis_px": 400.0}, "axis at 400 px.*0 to 95 px"),
        (None, {"binning": 8, "rows": (0, 4)}, "binning 8 leaves 0 rows"),
    ],
)
def test_what_cannot_be_reconstructed_is_told(nxtomo, tmp_path, change, settings, said):
    with pytest.raises(DataError, match=said) as raised:
        analysed(nxtomo(change), tmp_path, **settings)
    assert "\n" not in str(raised.value)


def test_the_real_scan_has_its_needle_and_its_rod(shared_data, tmp_path):
    made, volume = analysed(shared_data / "projections/nxtomo_24737_i13.nxs", tmp_path)
    assert 85.5 <= made["rotation_axis_px"] <= 85.8
    assert made["pixel_size_um"] is None
    smooth = ndimage.gaussian_filter(volume[90], 1.5)
    bright = smooth > 0.5 * smooth.max()
    # A round needle of 15 px, inside a rod that is grey, in air.
    height, width = (np.ptp(np.nonzero(bright)[axis]) + 1 for axis in (0, 1))
    assert 12 <= height <= 20
    assert 12 <= width <= 20
    assert abs(height - width) <= 2


def test_grey_values_of_an_independent_reconstruction(shared_data):
    folder = shared_data / "sinograms/nabudata"
    with np.load(folder / "mri_sino500.npz") as file:
        sinogram = file[file.files[0]].astype(np.float32)
    with np.load(folder / "mri_rec_astra.npz") as file:
        reference = file[file.files[0]]
    angles = np.arange(500) * 180 / 500
    made = Gridrec(angles, 512, 255.5).reconstruct(sinogram[None])[0]
    # ASTRA turns about the middle between two pixels, we about pixel 256.
    made = ndimage.shift(made, (-0.5, -0.5), order=3)
    place = np.arange(512) - 255.5
    inside = np.hypot(place[:, None], place[None]) < 250
    best = max(
        (made, made[::-1], made[:, ::-1], made[::-1, ::-1]),
        key=lambda image: np.corrcoef(image[inside], reference[inside])[0, 1],
    )
    assert np.corrcoef(best[inside], reference[inside])[0, 1] > 0.999
    scale = (best * reference)[inside].sum() / (reference[inside] ** 2).sum()
    assert 0.98 < scale < 1.03
    rms = np.sqrt(((best - reference)[inside] ** 2).mean())
    assert rms / np.ptp(reference[inside]) < 0.015


def test_the_engine_is_an_independent_nufft(oracle):
    ducc0 = pytest.importorskip("ducc0", reason="ducc0 is not installed")
    angles, width, axis_px = np.arange(300) * 0.6, 256, 131.3
    sinogram = oracle.phantom_sinogram(width, angles, axis_px)
    padded = 2048
    frequency = np.fft.fftfreq(padded)
    kernel = np.zeros(padded)
    kernel[0] = 0.25
    odd = np.arange(1, padded // 2, 2)
    kernel[odd] = kernel[-odd] = -1 / (np.pi * odd) ** 2
    spectrum = np.fft.fft(sinogram, padded, axis=1) * np.fft.fft(kernel).real
    spectrum *= np.exp(2j * np.pi * frequency * axis_px)
    spectrum[:, padded // 2] = 0
    radians = np.deg2rad(angles)[:, None]
    place = (
        2
        * np.pi
        * np.stack([frequency * np.sin(radians), frequency * np.cos(radians)], axis=-1)
    )
    expected = ducc0.nufft.nu2u(
        points=spectrum.ravel(),
        coord=place.reshape(-1, 2),
        forward=False,
        epsilon=1e-9,
        out=np.empty((width, width), np.complex128),
    ).real * (np.pi / len(angles) / padded)
    made = Gridrec(angles, width, axis_px).reconstruct(sinogram[None])[0]
    inside = made != 0
    # The bound for the engine.
    assert error(made, np.where(inside, expected, 0)) < 5e-4


def test_an_engine_is_chosen_by_name(monkeypatch):
    made = engine("gridrec", np.arange(8.0), 16, 7.5)
    assert made.name == "gridrec"
    with pytest.raises(ValueError, match="must be one of gridrec, tomopy"):
        check_engine("astra")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineUnavailableError, match="conda-forge"):
        check_engine("tomopy")


def test_tomopy_stands_as_we_do(oracle):
    pytest.importorskip("tomopy", reason="TomoPy is not installed (conda-forge)")
    angles = -20 + np.arange(360) * 0.5
    for width, axis_px in ((256, 131.2), (255, 120.4)):
        sinogram = oracle.phantom_sinogram(width, angles, axis_px)[None]
        ours, theirs = (
            engine(name, angles, width, axis_px, filter_window="hann").reconstruct(
                sinogram
            )[0]
            for name in ("gridrec", "tomopy")
        )
        middle = (slice(20, -20), slice(20, -20))
        down, across = np.gradient(ours[middle])
        columns = (down, across, ours[middle], np.ones_like(down))
        matrix = np.stack([part.ravel() for part in columns], axis=1)
        shift_y, shift_x, gain, _ = np.linalg.lstsq(
            matrix, theirs[middle].ravel(), rcond=None
        )[0]
        assert abs(shift_y / gain) < 0.1
        assert abs(shift_x / gain) < 0.1
