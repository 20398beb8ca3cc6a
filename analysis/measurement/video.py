"""The same view of every state, one after the other, as an animated picture."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

FRAME_MS = 600
LAST_FRAME_MS = 2000


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
        duration=durations, loop=0, optimize=False,
    )  # fmt: skip
    partial.replace(path)
    return path
