"""Porosity of Berea sandstone, a published number."""

import argparse
import json
from pathlib import Path

import pytest

from orchestrator import measure_command

BEREA = Path(__file__).parents[4] / "shared/data/segmentation/berea_100_to_300.npz"


@pytest.mark.skipif(not BEREA.is_file(), reason="needs ../shared/data (Berea)")
def test_porosity_of_berea(capsys):
    parser = argparse.ArgumentParser()
    measure_command.add_parser(parser.add_subparsers())
    args = parser.parse_args(
        ["measure", str(BEREA), "--voxel-um", "2", "--body", "whole", "--json"]
    )

    assert args.run(args) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["low_fraction"] == pytest.approx(0.198715, abs=0.0005)
    assert answer["crack_fraction"] == pytest.approx(0.198715, abs=0.0005)
    assert answer["percolates"] is True
    assert answer["crack_width_um"]["peak"] > 0
    assert answer["components"] > 1
