"""The event that says what a scan used and met."""

from pathlib import Path

import event_model
import numpy as np
import pytest

from plans.conditions import Conditions
from plans.projection_check import SpoiltFrame
from plans.projections import Projections
from plans.references import ReferenceGroup

FLATS = ReferenceGroup(
    file=Path("/raw/scan_0003_00_flats.h5"),
    frames=20,
    bad_frames=(4,),
    level_counts=30_000.0,
    scan_number=3,
    time_s=1000.0,
    ring_current_ma=300.0,
    camera=(0.19, 0.2),
)


def said(spoilt):
    conditions = Conditions()
    conditions.group("flats", FLATS, 1060.0)
    conditions.projections(Projections((299.0, 301.0), spoilt))
    return conditions


@pytest.mark.parametrize("spoilt", [(), (SpoiltFrame(7, "dark: no light"),)])
def test_readings_are_plain_and_described_as_they_are(spoilt):
    conditions = said(spoilt)
    read, described = conditions.read(), conditions.describe()
    bundle = event_model.compose_run().compose_descriptor(
        name="conditions", data_keys=described
    )
    event = bundle.compose_event(
        data={key: reading["value"] for key, reading in read.items()},
        timestamps={key: reading["timestamp"] for key, reading in read.items()},
    )
    event_model.schema_validators[event_model.DocumentNames.event].validate(event)

    assert event["data"]["flats_bad_frames"] == [4]
    assert event["data"]["flats_age_s"] == 60.0
    assert event["data"]["projections_bad_frames"] == [s.index for s in spoilt]
    assert event["data"]["projections_bad_reasons"] == [s.reason for s in spoilt]
    assert event["data"]["projections_ring_current_high_ma"] == 301.0
    for key, kind in (("frames", "i"), ("reasons", "U")):
        data_key = described[f"projections_bad_{key}"]
        assert np.dtype(data_key["dtype_numpy"]).kind == kind
        assert data_key["shape"] == [len(spoilt)]
