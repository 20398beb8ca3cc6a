"""The same view of every state, one after the other, as an animated picture."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

FRAME_MS = 600
LAST_FRAME_MS = 2000

SERIES = {
    "top_view": "slice_xy.png",
    "side_view": "slice_xz.png",
    "anode_interface": "anode_interface.png",
    "cathode_interface": "cathode_interface.png",
    "anode_voids": "anode_voids.png",
    "cathode_voids": "cathode_voids.png",
    "cracks_3d": "cracks_3d.png",
}
"""Name of each video, and the picture of a state that it is made of."""


def write_series(
    states: Sequence[tuple[Path, str]], directory: Path
) -> dict[str, Path]:
    """Write a video of each view, of the states that have it.

    A video that is newer than all its pictures stays as it is, so that this may be
    called after each tomogram.

    Parameters
    ----------
    states : sequence of (Path, str)
        Folder with the pictures of each state, in order, and its caption.
    directory : Path
        Where the videos go.

    Returns
    -------
    dict[str, Path]
        Name of each video of at least two states, and its file.
    """
    videos = {}
    for name, picture in SERIES.items():
        there = [
            (folder / picture, caption)
            for folder, caption in states
            if (folder / picture).is_file()
        ]
        if len(there) < 2:
            continue
        files, captions = zip(*there, strict=True)
        path = directory / f"{name}.gif"
        if not _is_newer(path, files, captions):
            try:
                write_video(files, captions, path)
            except (OSError, SyntaxError):  # SyntaxError: Pillow's word for a torn PNG
                # A picture may be written at this moment; the next call has it.
                continue
        videos[name] = path
    return videos


def _is_newer(path: Path, files: Sequence[Path], captions: Sequence[str]) -> bool:
    """Whether a video stands that was made of these states after their pictures."""
    try:
        made = path.stat().st_mtime_ns
        if any(file.stat().st_mtime_ns >= made for file in files):
            return False
        with Image.open(path) as video:
            return video.info.get("comment") == _comment(captions)
    except (OSError, SyntaxError):
        return False


def _comment(captions: Sequence[str]) -> bytes:
    """Return what tells in the file which states a video shows."""
    return "\n".join(captions).encode()


def write_video(pictures: Sequence[Path], captions: Sequence[str], path: Path) -> Path:
    """Write an animated GIF of pictures with a caption each.

    Parameters
    ----------
    pictures : sequence of Path
        Pictures of one size, in order; ``slice_xy.png`` of each state is the paper's
        top view, ``slice_xz.png`` its side view.
    captions : sequence of str
        Label of each state.
    path : Path
        The GIF to write.

    Raises
    ------
    ValueError
        Without pictures, or where their number is not that of the captions.
    """
    if not pictures or len(pictures) != len(captions):
        raise ValueError(
            f"{len(pictures)} pictures and {len(captions)} captions; a video needs "
            "at least one picture and a caption for each"
        )
    frames: list[Image.Image] = []
    for file, caption in zip(pictures, captions, strict=True):
        with Image.open(file) as picture:
            frame = picture.convert("RGB")
        if frames and frame.size != frames[0].size:
            frame = frame.resize(frames[0].size)
        draw = ImageDraw.Draw(frame)
        size = max(14, frame.height // 24)
        draw.text(
            (8, 6), caption, fill="white", font_size=size, stroke_width=2,
            stroke_fill="black",
        )  # fmt: skip
        frames.append(frame.quantize(128))
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    frames[0].save(
        partial, format="GIF", save_all=True, append_images=frames[1:],
        duration=durations, loop=0, optimize=False, comment=_comment(captions),
    )  # fmt: skip
    partial.replace(path)
    return path
