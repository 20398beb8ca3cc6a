"""Bad configurations and bad scan files: a clear line, an exit code, no traceback."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from orchestrator.apart import CrashedError, run_apart
from orchestrator.config import Experiment, load_experiment
from orchestrator.errors import ConfigurationError

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIGURATIONS = 500

ODD = [
    *(None, True, -1, 0, 1e300, -1e-300, "", " ", "x", "12 ms", "nan", "../..", "0,5"),
    *(
        [],
        {},
        [1],
        {"a": 1},
        "é" * 300,
        10**30,
        0.1 + 0.2,
        "\u0000",
        "!!python/name:os",
    ),
]


def mutated_structure(content, rng):
    """Change one to three things anywhere in a configuration."""
    for _ in range(rng.randint(1, 3)):
        section = rng.choice([s for s in content.values() if isinstance(s, dict)])
        while rng.random() < 0.5:
            inner = [s for s in section.values() if isinstance(s, dict) and s]
            if not inner:
                break
            section = rng.choice(inner)
        if not section:
            continue
        key = rng.choice(list(section))
        what = rng.randrange(4)
        if what == 0:
            del section[key]
        elif what == 1:
            section[key] = rng.choice(ODD)
        elif what == 2:
            section[f"{key}{rng.choice(['s', '_ms', '_x', ' '])}"] = section.pop(key)
        else:
            section[rng.choice(["pvs", "faults", "sub_steps", "x"])] = rng.choice(ODD)
    return yaml.safe_dump(content, allow_unicode=True)


def mutated_text(text, rng):
    """Damage the bytes of a file."""
    data = bytearray(text.encode())
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(data))
        what = rng.randrange(4)
        if what == 0:
            data[at] = rng.randrange(256)
        elif what == 1:
            del data[at : at + rng.randint(1, 40)]
        elif what == 2:
            data[at:at] = rng.choice(
                [b"\t", b":", b"- ", b"\n  ", b"'", b"{", b"&a ", b"*a"]
            )
        else:
            data[at:at] = data[at : at + rng.randint(1, 60)]
    return bytes(data)


def test_mutated_configurations_are_told_what_is_wrong(tmp_path):
    rng = random.Random(7)
    path = tmp_path / "experiment.yaml"
    refused = 0
    for number in range(CONFIGURATIONS):
        source = (EXAMPLES / rng.choice(["dry_run.yaml", "paper.yaml"])).read_text()
        if number % 2:
            path.write_text(mutated_structure(yaml.safe_load(source), rng))
        else:
            path.write_bytes(mutated_text(source, rng))
        try:
            experiment = load_experiment(path)
        except ConfigurationError as error:
            refused += 1
            for fault in error.faults:
                assert fault.startswith(str(path)), fault
                assert len(fault.splitlines()) == 1, fault
                assert not re.search(r"Traceback|pydantic|input_value", fault), fault
        else:
            assert isinstance(experiment, Experiment)
    assert refused > CONFIGURATIONS / 2


@pytest.fixture(scope="module")
def good_scan(tmp_path_factory):
    """A small scan of a disc as a plain NXtomo file."""
    path = tmp_path_factory.mktemp("scan") / "good.nxs"
    angles = np.arange(0, 180, 2.0)
    x = np.arange(32) - 15.5
    disc = 2 * np.sqrt(np.clip(10.0**2 - x**2, 0, None)) * 0.03
    frame = np.broadcast_to(1000 * np.exp(-disc), (8, 32))
    frames = np.stack([np.full((8, 32), 10.0)] * 2 + [np.full((8, 32), 1010.0)] * 2)
    frames = np.concatenate([frames, np.stack([frame + 10] * len(angles))])
    with h5py.File(path, "w") as file:
        file.attrs["NX_class"] = "NXroot"
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["definition"] = "NXtomo"
        for name, kind in (
            ("instrument", "NXinstrument"),
            ("instrument/detector", "NXdetector"),
            ("sample", "NXsample"),
            ("data", "NXdata"),
        ):
            entry.create_group(name).attrs["NX_class"] = kind
        detector = entry["instrument/detector"]
        detector["data"] = frames.astype("u2")
        detector["image_key"] = np.array([2] * 2 + [1] * 2 + [0] * len(angles), "i4")
        detector["x_pixel_size"] = 0.8e-6
        detector["x_pixel_size"].attrs["units"] = "m"
        entry["sample/rotation_angle"] = np.concatenate([np.zeros(4), angles])
        entry["sample/rotation_angle"].attrs["units"] = "degree"
        for name in ("data", "image_key"):
            entry[f"data/{name}"] = detector[name]
        entry["data/rotation_angle"] = entry["sample/rotation_angle"]
    return path


def datasets(file):
    names = []
    file.visititems(
        lambda name, item: (
            names.append(name) if isinstance(item, h5py.Dataset) else None
        )
    )
    return names


def mutate_scan(path, rng):
    """Damage the bytes of a scan file, or what is in it."""
    if rng.random() < 0.5:
        data = bytearray(path.read_bytes())
        what = rng.randrange(3)
        if what == 0:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.randint(1, 40)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        return
    with h5py.File(path, "r+") as file:
        for _ in range(rng.randint(1, 2)):
            name = rng.choice(datasets(file) or ["entry/definition"])
            old = file[name][()] if name in file else 0
            if name in file:
                del file[name]
            value = odd_value(old, rng)
            if value is not None:
                file[name] = value


def odd_value(old, rng):
    """Return something that does not belong there, or None for nothing."""
    shape = np.shape(old) or (1,)
    match rng.randrange(9):
        case 0:
            return None
        case 1:
            return np.nan
        case 2:
            return "text"
        case 3:
            return np.zeros(0)
        case 4:
            return np.zeros((3, 3))
        case 5:
            return np.asarray(old).ravel()[:5]
        case 6:
            return np.full(shape, 7)
        case 7:
            return np.full(shape, np.inf)
    return np.asarray(old, dtype="S3") if np.ndim(old) else b"x"


ANALYSE_ALL = """
import sys
from pathlib import Path
import analysis.pipeline  # once, not in each of the processes apart
from orchestrator.cli import main
for line in sys.stdin:
    scan = Path(line.strip())
    print(scan.name, flush=True)
    code = main(["analyse", str(scan), "--out", str(scan.with_suffix(".out")),
                 "--reconstruct-only"])
    print("code", code, flush=True)
"""


@pytest.mark.timeout(280)
@pytest.mark.parametrize("number", [60, pytest.param(200, marks=pytest.mark.slow)])
def test_mutated_scans_are_told_what_is_wrong(good_scan, tmp_path, number):
    rng = random.Random(11)
    paths = []
    for index in range(number):
        path = tmp_path / f"scan_{index:03d}.nxs"
        shutil.copy(good_scan, path)
        if index:
            mutate_scan(path, rng)
        paths.append(path)
    run = subprocess.run(
        [sys.executable, "-c", ANALYSE_ALL],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        timeout=270,
    )
    codes = [int(c) for c in re.findall(r"^code (\d+)$", run.stdout, re.MULTILINE)]
    assert run.returncode == 0, run.stdout[-500:] + run.stderr[-3000:]
    assert "Traceback" not in run.stderr, run.stderr[-3000:]
    assert len(codes) == number
    assert codes[0] == 0
    odd = [
        f"{p.name}: {c}" for p, c in zip(paths, codes, strict=True) if c not in (0, 2)
    ]
    assert odd == [], run.stderr[-3000:]
    assert codes.count(2) > number / 8
    for line in run.stderr.splitlines():
        assert line.startswith("insitu-ct: "), line
    for path, code in zip(paths, codes, strict=True):
        if code == 2:
            assert not (path.with_suffix(".out") / "analysis.json").exists()


def test_a_crash_of_a_library_is_survived():
    assert run_apart(pow, 2, 10) == 1024
    with pytest.raises(ZeroDivisionError):
        run_apart(divmod, 1, 0)
    with pytest.raises(CrashedError, match="SIGKILL"):
        run_apart(lambda: os.kill(os.getpid(), signal.SIGKILL))
