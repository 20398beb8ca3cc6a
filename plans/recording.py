"""A series of frames into a file of its own, as a stream of the open run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator

from devices.camera import FrameSeries
from devices.errors import FramesLostError

# Often enough for the analysis to keep up, seldom enough to cost nothing.
FLUSH_PERIOD_S = 0.5


def record_frames(
    camera: Any,
    series: FrameSeries,
    stream: str,
    *,
    flyers: Sequence[Any] = (),
    run_up: Callable[[], MsgGenerator[Any]] | None = None,
    prepared: Callable[[], None] | None = None,
    watch: Sequence[str] = (),
) -> MsgGenerator[None]:
    """Record `series` into `stream`, documents following the file as it grows.

    Parameters
    ----------
    camera : Camera
        Staged.
    series : FrameSeries
        File, number, times and trigger.
    stream : str
        Name of the stream, new in this run.
    flyers : sequence
        Prepared devices that run with the camera, started in this order after it
        waits for triggers; the stage last.
    run_up : callable, optional
        Makes the messages between the start of the flyers and that of the camera, for
        a camera that runs by its own clock: then the flyers start first.
    prepared : callable, optional
        Called when the file is open and no frame has come.
    watch : sequence of str
        Groups of guards whose failure ends the recording at once.
    """
    yield from bps.prepare(camera, series, wait=True)
    yield from bps.declare_stream(camera, name=stream, collect=True)
    if prepared is not None:
        prepared()
    if run_up is None:
        yield from bps.kickoff(camera, wait=True)
    for flyer in flyers:
        yield from bps.kickoff(flyer, wait=True)
    if run_up is not None:
        yield from run_up()
        yield from bps.kickoff(camera, wait=True)
    yield from bps.collect_while_completing(
        [camera, *flyers],
        [camera],
        flush_period=FLUSH_PERIOD_S,
        stream_name=stream,
        watch=watch,
    )
    if camera.num_reported != series.number:
        raise FramesLostError(
            f"the documents announce {camera.num_reported} of {series.number} frames"
            f" of {series.file}: its IOC answered too late, retake"
        )
