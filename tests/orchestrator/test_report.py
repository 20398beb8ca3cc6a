"""The report of an experiment, on folders made by the orchestrator's own writers."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from orchestrator.errors import ConfigurationError
from orchestrator.journal import Journal
from orchestrator.layout import Layout
from orchestrator.record import DocumentRecord
from orchestrator.report import write_report
from orchestrator.report_data import read_experiment
from orchestrator.results import ResultsTable, write_rows
from orchestrator.slices import (
    PICTURE_WIDTH_PX,
    common_grey_scale,
    kept_slices,
    read_slices,
    scale_bar_um,
)
from orchestrator.voltage_figure import thin_out
from plans.schedule import schedule
from plans.settings import CyclingSettings
from plans.steps import HalfCycleStep

EXAMPLES = Path(__file__).parents[2] / "examples"
START_S = 1_790_000_000.0
CELL_NAME = 'Cell <b>7</b> & "sons"'
LPS_PER_CM, LITHIUM_PER_CM, PIXEL_UM = 7.86, 0.095, 0.8


def volume(state, shape=(48, 80, 80)):
    """A pellet between lithium layers, with `state` curved gaps 3 um wide."""
    rng = np.random.default_rng(7)
    nz, ny, nx = shape
    z, y, x = np.meshgrid(
        np.arange(nz) - nz / 2,
        np.arange(ny) - ny / 2,
        np.arange(nx) - nx / 2,
        indexing="ij",
    )
    inside = np.hypot(x, y) < 0.43 * nx
    per_cm = np.where(inside, LITHIUM_PER_CM, 0.0)
    per_cm[inside & (abs(z) < 0.3 * nz)] = LPS_PER_CM
    for crack in range(state):
        middle = (crack - 3) * 7 + 3 * np.sin(y / 9 + crack) + 2 * np.cos(z / 5)
        gap = inside & (abs(z) < 0.3 * nz) & (abs(x - middle) < 2)
        per_cm[gap] = LITHIUM_PER_CM
    grey = per_cm * PIXEL_UM * 1e-4
    return (grey + rng.normal(0, 5e-5, shape)).astype(np.float32)


def write_volume(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs.update(NX_class="NXentry", default="data")
        data = entry.create_group("data")
        data.attrs.update(NX_class="NXdata", signal="data", axes=["z", "y", "x"])
        data["data"] = grey
        for axis, size in zip("zyx", grey.shape, strict=True):
            data[axis] = np.arange(size) * PIXEL_UM
            data[axis].attrs["units"] = "um"


def make_experiment(directory, half_cycles=7, *, ended=True):
    """Write a folder as `orchestrator.session` does, without running anything."""
    layout = Layout(directory.resolve())
    layout.create()
    values = yaml.safe_load((EXAMPLES / "paper.yaml").read_text())
    values["experiment"]["title"] = CELL_NAME
    layout.experiment_file.write_text(yaml.safe_dump(values, allow_unicode=True))
    cycling = CyclingSettings(
        current_density_ma_cm2=0.15, half_cycle_duration_s=1800, num_half_cycles=14
    )
    journal = Journal(layout.journal_file)
    versions = {"python": "3.11.9", "packages": {"bluesky": "1.15.1"}}
    journal.add("session", "run", details={"versions": versions, "simulated": True})
    record = DocumentRecord(layout.documents_file)
    results = ResultsTable(layout.results_dir)
    truth = []
    steps = schedule(cycling, math.pi * 0.1**2)[: 2 * half_cycles + 1]
    time_s, charge_c = START_S, 0.0
    for step in steps:
        journal.begin(step, 0)
        common = {
            "experiment_id": "cell-07",
            "step_index": step.index,
            "label": step.label,
            "attempt": 0,
            "simulated": True,
            "gross_charge_c": charge_c,
        }
        uid = f"run-{step.index}"
        if isinstance(step, HalfCycleStep):
            last = step.half_cycle == half_cycles
            seconds = np.arange(0, 1200 if last else 1800, 10.0)
            sign = np.sign(step.current_ma)
            voltage_v = sign * (0.1 + 0.01 * step.half_cycle + 1e-5 * seconds)
            if last:
                voltage_v[-1] = 0.0006
            record(
                "start",
                common
                | {
                    "uid": uid,
                    "plan_name": "half_cycle",
                    "half_cycle": step.half_cycle,
                    "current_ma": step.current_ma,
                    "duration_s": step.duration_s,
                },
            )
            record(
                "descriptor",
                {"uid": f"e{uid}", "run_start": uid, "name": "electrochemistry"},
            )
            for second, volts in zip(seconds, voltage_v, strict=True):
                data = {
                    "potentiostat_time_s": time_s + second,
                    "potentiostat_voltage_v": volts,
                    "potentiostat_current_ma": step.current_ma,
                }
                record("event", {"descriptor": f"e{uid}", "data": data})
            record(
                "descriptor", {"uid": f"o{uid}", "run_start": uid, "name": "outcome"}
            )
            reason = "Voltage" if last else "Elapsed"
            record(
                "event",
                {"descriptor": f"o{uid}", "data": {"potentiostat_end_reason": reason}},
            )
            record("stop", {"run_start": uid, "exit_status": "success"})
            charge_c += abs(step.current_ma) * 1e-3 * (seconds[-1] + 10)
            time_s += seconds[-1] + 60
            journal.done(step, 0, {"end_reason": reason})
            continue
        raw = layout.raw_files(step.scan_number, 0)["projections"]
        with h5py.File(raw, "w") as file:
            file["entry/instrument/NDAttributes/NDArrayTimeStamp"] = (
                time_s + 20 + 0.2 * np.arange(2400)
            )
        record(
            "start",
            common
            | {
                "uid": uid,
                "plan_name": "tomogram",
                "scan_number": step.scan_number,
                "raw_files": {"projections": str(raw)},
            },
        )
        record("stop", {"run_start": uid, "exit_status": "success"})
        time_s += 560
        journal.done(step, 0, {})
        write_volume(layout.tomogram_file(step.scan_number), volume(step.scan_number))
        measured_file = layout.tomogram_file(step.scan_number).with_suffix(
            ".measured.h5"
        )
        with h5py.File(measured_file, "w") as file:
            edges_um = np.arange(0, 20.5, 0.5)
            middle_um = (edges_um[:-1] + edges_um[1:]) / 2
            file["entry/crack_width/edges_um"] = edges_um
            file["entry/crack_width/volume_um3"] = (
                1e6 * step.scan_number * np.exp(-(((middle_um - 3) / 1.2) ** 2))
            )
        render = layout.preview_dir(step.scan_number) / "cracks_3d.png"
        render.parent.mkdir(parents=True)
        if step.scan_number > 1:  # the first has no crack, the second a torn picture
            Image.new("RGB", (72, 56), "red").save(render)
            for name in ("anode_interface", "cathode_interface"):
                Image.new("RGB", (72, 40), "gray").save(render.with_stem(name))
        elif step.scan_number == 1:
            render.write_bytes(b"\x89PNG\r\n\x1a\n torn")
        true_um3 = 0.0
        if step.scan_number:
            true_um3 = 2.75e7 + 1.4e8 * math.log((step.scan_number + 1) / 2)
        measured_um3 = true_um3 * (1 + 0.01 * math.sin(step.scan_number))
        lithium_um3 = step.scan_number * 1.1425e6
        row = {
            "scan_number": step.scan_number,
            "label": step.label,
            "attempt": 0,
            "simulated": True,
            "gross_charge_c": charge_c,
            "crack_volume_um3": measured_um3,
            "crack_volume_sd_um3": 1e6,
            "crack_fraction": measured_um3 / 1.9e9,
            "crack_width_peak_um": 3.0 + 0.1 * step.scan_number,
            "crack_width_median_um": 3.2,
            "crack_width_q05_um": 1.8,
            "crack_width_q25_um": 2.6,
            "crack_width_q75_um": 4.0,
            "crack_width_q95_um": 6.1,
            "pellet_thickness_um": 600.0,
            "pellet_thickness_sd_um": 0.1,
            "anode_thickness_um": 80.0 - min(step.scan_number, 5),
            "lithium_volume_um3": lithium_um3,
            "filling_fraction": lithium_um3 / true_um3 if true_um3 else None,
            "penetrates": step.scan_number > 0,
            "reason": None if step.scan_number else "no crack to measure a width",
        }
        results.add(row)
        if true_um3:
            truth.append(
                {
                    "label": step.label,
                    "scan_number": step.scan_number,
                    "crack_volume_um3": measured_um3,
                    "crack_volume_true_um3": true_um3,
                    "crack_volume_error_frac": measured_um3 / true_um3 - 1,
                }
            )
    journal.decide("one last tomogram after the short")
    write_rows(layout.results_dir / "truth_comparison.csv", truth)
    if ended:
        reason = "short circuit in half-cycle 7: 0.0006 V <script>alert(1)</script>"
        journal.add("ended", reason, details={"outcome": "short_circuit"})
    journal.close()
    record.close()
    return layout.directory


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("report") / "cell-07")


@pytest.fixture(scope="module")
def page(finished):
    return write_report(finished).read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Tags of a page, checked for balance as they come."""

    void = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self):
        super().__init__()
        self.open = []
        self.ids = []
        self.addresses = []
        self.text = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href"):
                self.addresses.append(value)
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def outline(page):
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_page_is_whole_html_that_needs_nothing_else(page):
    parsed = outline(page)
    assert len(parsed.ids) == len(set(parsed.ids)), "ids are unique"
    assert parsed.addresses
    for address in parsed.addresses:
        assert address.startswith(("#", "data:image/", "../results/videos/")), address
        if address.startswith("#"):
            assert address[1:] in parsed.ids
    assert "url(http" not in page
    assert "@import" not in page


def test_summary_says_what_happened_and_why_it_stopped(page):
    text = " ".join(" ".join(outline(page).text).split())
    assert "Simulated beamline" in text
    assert "Short circuit in half-cycle 7: 0.0006 V" in text
    assert "8 taken, 8 measured" in text
    assert "± 4.712 µA (0.15 mA/cm²), 30 min 00 s each way" in text
    assert "2400 projections over 180°" in text
    # 6 whole half-cycles of 8.482 mC and 1200 s of 4.712 uA
    assert "56.55 mC" in text


def test_what_users_type_is_escaped(page):
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "Cell <b>7</b>" not in page
    assert "Cell &lt;b&gt;7&lt;/b&gt; &amp;" in page


def test_every_state_has_three_pictures(page):
    slices, renders, interfaces = 3 * 8, 6, 2 * 6
    assert page.count('src="data:image/jpeg') == slices + renders + interfaces
    assert 'alt="cathode interface, After discharge 1.5"' in page
    assert 'alt="cracks in 3D, After discharge 1.5"' in page
    assert "After charge 4" in page
    assert "After discharge 3.5" in page
    assert page.index("Pristine") < page.index("After charge 1")


def test_videos_are_linked_where_they_lie(page, finished):
    links = re.findall(r'href="(\.\./results/videos/[^"]+)">([^<]+)<', page)
    assert {name for _, name in links} == {"anode interface", "cathode interface"}
    for address, _ in links:
        with Image.open(finished / "report" / address) as video:
            assert video.n_frames >= 2


def test_figures_carry_their_axes_with_units(page):
    for label in (
        "time since the start (h)",
        "cell voltage (V)",
        "crack volume (10⁸ µm³)",
        "Li volume, gross (10⁶ µm³)",
        "filling fraction (%)",
        "label (charge N, discharge N.5)",
        "short circuit",
        "scan (open circuit)",
        "crack width (µm)",
        "crack volume per width (10⁷ µm³/µm)",
        "change of thickness (µm)",
        "Li, anode (first 80.0 µm)",
        "simulation's truth",
        "logarithmic law",
        "growth (10⁸ µm³ per label)",
        "V(N) = a + b ln N, a = 2.7",
    ):
        assert label in page, label


def test_table_gives_units_and_the_reason_of_a_gap(page):
    text = " ".join(" ".join(outline(page).text).split())
    assert "no crack to measure a width" in text
    assert re.search(r"crack volume\s*µm³", text)
    assert "2.77" in text  # crack volume of label 1, 2.75e7 * (1 + 0.01 sin 1)


def test_error_against_truth_is_stated(page, finished):
    errors = [row["crack_volume_error_frac"] for row in read_experiment(finished).truth]
    mean = 100 * sum(errors) / len(errors)
    assert f"mean {mean:+.1f} %" in page


def test_running_experiment_says_so(tmp_path):
    directory = make_experiment(tmp_path / "running", half_cycles=1, ended=False)
    page = write_report(directory).read_text(encoding="utf-8")
    outline(page)
    assert "the journal has no end yet" in page
    assert "Short circuit" not in page


def test_folder_with_only_a_configuration_gives_a_page(tmp_path):
    (tmp_path / "experiment.yaml").write_text("experiment: {id: x}\n")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    outline(page)
    assert "journal.sqlite" in page
    assert "Incomplete" in page


def test_each_damaged_part_is_named_and_the_rest_is_shown(tmp_path):
    directory = make_experiment(tmp_path / "damaged", half_cycles=2)
    layout = Layout(directory)
    layout.journal_file.write_bytes(b"this is not a database" * 100)
    with open(layout.documents_file, "a") as file:
        file.write('["event", {"descriptor": "erun-1", "da')
    with open(layout.results_dir / "measurements.csv", "a") as file:
        file.write("9,5,0\n")
    layout.tomogram_file(1).write_bytes(b"\x89HDF torn")
    page = write_report(directory).read_text(encoding="utf-8")
    outline(page)
    assert "journal.sqlite cannot be read" in page
    assert "measurements.csv line 5 has 3 values" in page
    assert "scan_0001.h5: no slices" in page
    slices, renders, interfaces = 3 * 2, 1, 2
    assert page.count('src="data:image/jpeg') == slices + renders + interfaces
    assert "cell voltage (V)" in page


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_what_is_no_experiment_is_refused_in_one_line(tmp_path, kind):
    path = tmp_path / "nothing"
    if kind == "file":
        path.write_text("x")
    elif kind == "empty":
        path.mkdir()
    with pytest.raises(ConfigurationError) as error:
        write_report(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (path / "report").exists()


def test_report_is_replaced_in_one_move(finished):
    path = write_report(finished)
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]


def test_slices_are_the_middle_planes(tmp_path):
    grey = np.arange(20 * 30 * 40, dtype=np.float32).reshape(20, 30, 40)
    write_volume(tmp_path / "t.h5", grey)
    slices = read_slices(tmp_path / "t.h5")
    np.testing.assert_array_equal(slices.top, grey[10])
    np.testing.assert_array_equal(slices.front, grey[:, 15])
    np.testing.assert_array_equal(slices.side, grey[:, :, 20])
    assert slices.voxel_size_um == pytest.approx(PIXEL_UM)


def test_slices_meet_in_the_given_voxel_or_at_the_nearest_face(tmp_path):
    grey = np.arange(20 * 30 * 40, dtype=np.float32).reshape(20, 30, 40)
    write_volume(tmp_path / "t.h5", grey)
    slices = read_slices(tmp_path / "t.h5", (3.2, 99.0, -4.0))
    np.testing.assert_array_equal(slices.top, grey[3])
    np.testing.assert_array_equal(slices.front, grey[:, 29])
    np.testing.assert_array_equal(slices.side, grey[:, :, 0])


def test_slices_are_read_once_until_the_tomogram_changes(tmp_path, monkeypatch):
    path, keep = tmp_path / "t.h5", tmp_path / "previews" / "kept.npz"
    write_volume(path, np.full((8, 8, 8), 1.0, np.float32))
    first = kept_slices(path, keep)
    reads = []
    monkeypatch.setattr(
        "orchestrator.slices.read_slices",
        lambda *args: reads.append(args) or read_slices(*args),
    )
    again = kept_slices(path, keep)
    assert reads == []
    np.testing.assert_array_equal(again.side, first.side)
    assert (again.voxel_size_um, again.pixel_size_um) == (PIXEL_UM, PIXEL_UM)
    keep.write_bytes(b"PK torn")
    np.testing.assert_array_equal(kept_slices(path, keep).top, first.top)
    write_volume(path, np.full((8, 8, 9), 2.0, np.float32))
    assert (kept_slices(path, keep).top == 2.0).all()
    assert len(reads) == 2


def test_slices_come_from_a_level_of_the_pyramid_that_fills_the_picture(tmp_path):
    wide = 4 * PICTURE_WIDTH_PX
    write_volume(tmp_path / "t.h5", np.zeros((8, 8, wide), np.float32))
    with h5py.File(tmp_path / "t.h5", "a") as file:
        for factor in (2, 4):
            shape = (8 // factor, 8 // factor, wide // factor)
            level = np.full(shape, factor, np.float32)
            file[f"entry/data_{factor}x/data"] = level
    slices = read_slices(tmp_path / "t.h5")
    assert slices.top.shape == (2, PICTURE_WIDTH_PX)
    assert (slices.top == 4).all()
    assert slices.voxel_size_um == pytest.approx(4 * PIXEL_UM)
    assert slices.pixel_size_um == pytest.approx(PIXEL_UM)


def test_grey_scale_is_set_by_the_first_state(tmp_path):
    write_volume(tmp_path / "a.h5", volume(0))
    write_volume(tmp_path / "b.h5", 3 * volume(0))
    first, second = (read_slices(tmp_path / f"{name}.h5") for name in "ab")
    scale = common_grey_scale([first, second])
    assert scale.white == pytest.approx(LPS_PER_CM * PIXEL_UM * 1e-4, rel=0.4)
    assert scale == common_grey_scale([first])


@pytest.mark.parametrize(
    ("width_um", "bar_um"), [(2048.0, 1000.0), (256.0, 100.0), (99.0, 20.0), (1.0, 0.5)]
)
def test_scale_bar_is_round(width_um, bar_um):
    assert scale_bar_um(width_um) == pytest.approx(bar_um)


def test_thinning_keeps_a_dip_of_one_sample():
    time_s = np.arange(100_000.0)
    voltage_v = np.full(time_s.size, 0.12)
    voltage_v[61_234] = 0.0003
    thin_s, thin_v = thin_out(time_s, voltage_v, 1000)
    assert thin_s.size <= 1000
    assert thin_v.min() == 0.0003
    assert (np.diff(thin_s) > 0).all()
    assert thin_s[0] == 0 and thin_s[-1] == time_s[-1]
