"""Slices of a tomogram as PNG: common grey scale, scale bar, same places each time."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

GREY_MARGIN = 0.25
"""The grey scale reaches this share of the contrast beyond both levels."""


def to_grey(plane: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Map the levels ``low`` and ``high`` to the common 8-bit grey scale."""
    margin = GREY_MARGIN * (high - low)
    scaled = (plane - (low - margin)) / (high - low + 2 * margin)
    return (np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def nice_length_um(width_um: float) -> float:
    """Return a round length of about a quarter of the width."""
    target = width_um / 4
    power = 10.0 ** np.floor(np.log10(target))
    return float(max(step * power for step in (1, 2, 5) if step * power <= target))


def with_scale_bar(
    grey: NDArray[np.uint8], pixel_um: float, width_px: int = 480
) -> Image.Image:
    """Return a picture, about ``width_px`` wide, with a bar of a round length."""
    picture = Image.fromarray(grey).convert("L")
    enlarge = max(1, round(width_px / max(picture.size)))
    if enlarge > 1:
        size = (picture.width * enlarge, picture.height * enlarge)
        picture = picture.resize(size, Image.Resampling.NEAREST)
    length_um = nice_length_um(grey.shape[1] * pixel_um)
    length = round(length_um / pixel_um * enlarge)
    draw = ImageDraw.Draw(picture)
    margin = max(8, picture.width // 50)
    thick = max(3, picture.height // 120)
    bottom = picture.height - margin
    draw.rectangle(
        (margin - 2, bottom - thick - 2, margin + length + 2, bottom + 2), fill=0
    )
    draw.rectangle((margin, bottom - thick, margin + length, bottom), fill=255)
    text = f"{length_um:g} um"
    size = max(12, picture.height // 30)
    box = draw.textbbox((0, 0), text, font_size=size)
    at = (margin, bottom - thick - 4 - box[3])
    draw.text(at, text, fill=255, font_size=size, stroke_width=2, stroke_fill=0)
    return picture


def write_slices(
    planes: dict[str, NDArray[np.float32]],
    low: float,
    high: float,
    voxel_um: float,
    directory: Path,
) -> tuple[Path, ...]:
    """Write each plane as ``NAME.png`` and return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for name, plane in planes.items():
        file = directory / f"{name}.png"
        with_scale_bar(to_grey(plane, low, high), voxel_um).save(file)
        files.append(file)
    return tuple(files)
