"""Slices, renderings and videos show what they should."""

import os

import numpy as np
import pytest
from PIL import Image

from analysis.measurement.body import Body, whole_body
from analysis.measurement.crack_mask import PackedMask
from analysis.measurement.pictures import nice_length_um, to_grey, with_scale_bar
from analysis.measurement.render import render_cracks
from analysis.measurement.video import write_series, write_video

SHAPE = (24, 64, 64)


def packed(mask):
    out = PackedMask.empty((0, len(mask)), *mask.shape[1:])
    out.put(0, mask)
    return out


def pellet():
    y, x = SHAPE[1:]
    return Body(
        top=np.full((y, x), 3.0, np.float32),
        bottom=np.full((y, x), 20.0, np.float32),
        rim=np.full((SHAPE[0], 90), 26.0, np.float32),
        centre=(31.5, 31.5),
        edge_sigma_px=0.8,
    )


def test_the_grey_scale_is_that_of_the_levels_not_of_the_picture():
    plane = np.array([[0.0, 1.0, 2.0, -5.0, 9.0]])
    grey = to_grey(plane, low=0.0, high=2.0)
    # A quarter of the contrast beyond both levels: 0 -> 1/6, 2 -> 5/6 of the scale.
    assert grey[0].tolist() == [42, 127, 212, 0, 255]


@pytest.mark.parametrize(
    ("width_um", "bar_um"), [(256.0, 50.0), (2048.0, 500.0), (90.0, 20.0), (40.0, 10.0)]
)
def test_the_scale_bar_is_a_round_quarter(width_um, bar_um):
    assert nice_length_um(width_um) == bar_um


def test_the_scale_bar_has_its_length():
    picture = np.asarray(with_scale_bar(np.zeros((480, 640), np.uint8), 0.8))
    # 100 um at 0.8 um are 125 pixels; the bar is the longest white run.
    longest = max((row == 255).sum() for row in picture)
    assert longest == pytest.approx(125, abs=2)


def colours(picture):
    """Return which pixels are reddish and which are yellowish."""
    red, green, blue = (picture[..., i].astype(int) for i in range(3))
    return (red - green > 60), (red - blue > 40) & (green - blue > 30)


def test_earlier_cracks_are_red_and_new_ones_yellow():
    mask = np.zeros(SHAPE, bool)
    mask[4:20, 20:24, 12:52] = True
    new = np.zeros(SHAPE, bool)
    new[4:20, 40:44, 12:52] = True

    picture, pixel_px = render_cracks(
        packed(mask | new), packed(new), pellet(), azimuth_deg=0, elevation_deg=90
    )

    red, yellow = colours(picture)
    assert red.sum() > 500
    assert yellow.sum() > 500
    # From above the sheets lie 20 voxels apart, each some 40 voxels long.
    apart = np.argwhere(yellow).mean(axis=0) - np.argwhere(red & ~yellow).mean(axis=0)
    assert np.linalg.norm(apart) * pixel_px == pytest.approx(20, abs=3)
    area_px = (red & ~yellow).sum() * pixel_px**2
    assert area_px == pytest.approx(4 * 40, rel=0.5)


def test_nothing_is_drawn_where_there_is_no_crack():
    empty = packed(np.zeros(SHAPE, bool))
    red, yellow = colours(render_cracks(empty, None, pellet())[0])
    assert not red.any()
    assert not yellow.any()


def test_a_whole_volume_can_be_drawn():
    mask = np.zeros(SHAPE, bool)
    mask[:, 30:34] = True
    picture, _ = render_cracks(packed(mask), None, whole_body(SHAPE))
    assert colours(picture)[0].sum() > 500


def test_a_video_has_one_frame_a_state(tmp_path):
    files = []
    for number in range(3):
        file = tmp_path / f"{number}.png"
        Image.fromarray(np.full((60, 80), 50 * number, np.uint8)).save(file)
        files.append(file)

    video = write_video(files, ["0", "1", "1.5"], tmp_path / "top.gif")

    with Image.open(video) as image:
        assert image.n_frames == 3
        assert image.size == (80, 60)
        levels = []
        for number in range(3):
            image.seek(number)
            levels.append(np.asarray(image.convert("L"))[40:].mean())
    assert levels == pytest.approx([0, 50, 100], abs=3)


def test_a_video_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one picture"):
        write_video([], [], tmp_path / "top.gif")


def make_states(directory, number):
    states = []
    for index in range(number):
        folder = directory / f"scan_{index:04d}"
        folder.mkdir(parents=True)
        for name in ("slice_xy", "slice_xz"):
            Image.new("L", (60, 40), 40 * index).save(folder / f"{name}.png")
        states.append((folder, f"label {index}"))
    return states


def test_videos_are_made_of_the_views_that_there_are(tmp_path):
    states = make_states(tmp_path, 3)
    Image.new("L", (60, 40)).save(states[1][0] / "anode_voids.png")

    videos = write_series(states, tmp_path / "videos")

    # One picture of the voids is no video.
    assert set(videos) == {"top_view", "side_view"}
    with Image.open(videos["top_view"]) as video:
        assert video.n_frames == 3
    assert write_series(states[:1], tmp_path / "videos") == {}


def test_a_video_is_made_anew_when_there_is_something_new(tmp_path):
    states = make_states(tmp_path, 3)
    for folder, _ in states:
        for file in folder.iterdir():
            os.utime(file, (0, 0))
    videos = write_series(states[:2], tmp_path / "videos")
    made = videos["side_view"].stat().st_ino

    write_series(states[:2], tmp_path / "videos")
    assert videos["side_view"].stat().st_ino == made

    write_series(states, tmp_path / "videos")
    with Image.open(videos["side_view"]) as video:
        assert video.n_frames == 3
    made = videos["side_view"].stat().st_ino
    os.utime(states[0][0] / "slice_xz.png")
    os.utime(videos["side_view"], (1, 1))
    write_series(states, tmp_path / "videos")
    assert videos["side_view"].stat().st_ino != made


def test_a_torn_picture_leaves_the_video_for_the_next_time(tmp_path):
    states = make_states(tmp_path, 2)
    whole = (states[0][0] / "slice_xy.png").read_bytes()
    (states[0][0] / "slice_xy.png").write_bytes(whole[: len(whole) // 2])

    videos = write_series(states, tmp_path / "videos")

    assert set(videos) == {"side_view"}
