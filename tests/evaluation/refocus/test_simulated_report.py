"""The report of a benchmark as large as the paper's, with planted effects: flags, size, pages."""

import csv
import io
import json

import numpy as np
import pytest

from dofsuite.evaluation.refocus.report import samples_csv, tables
from dofsuite.evaluation.refocus.scene_pages import figures, sheets, write_pages
from dofsuite.evaluation.report import write_report
from tests.evaluation.browser import CHROMIUM, NO_BROWSER, Page
from tests.evaluation.refocus.simulated_report import simulated

EFFECTS = {"good": -0.004, "bad": 0.004, "bad on half": 0.006}
EIGHT = EFFECTS | {
    "same": 0.0,
    "another": -0.003,
    "worst": 0.02,
    "slightly good": -0.001,
    "slightly bad": 0.001,
}
TASKS = ("refocus", "bokeh", "deblur")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return simulated(tmp_path_factory.mktemp("simulated"), EFFECTS, num_scenes=24, size_px=16)


@pytest.fixture(scope="module")
def report(small, tmp_path_factory):
    return write(tmp_path_factory.mktemp("report"), *small)


def write(folder, benchmark, results):
    found = tables(benchmark, results, [])
    plots = figures(benchmark, results, 0)
    write_report(folder, "Report", found, sheets(benchmark, results, 3), {"seed": 0}, plots)
    return folder


def table(report, index):
    return json.loads((report / "report.json").read_text())["tables"][index]


def test_flags_of_every_task_are_what_was_planted(report):
    for index, task in enumerate(TASKS):
        notes = [note for note in table(report, index)["notes"] if note.startswith("FLAG")]
        above_copy = {note.split(": ")[1] for note in notes if "above copy's" in note}
        assert above_copy == {"bad", "bad on half"}
        assert all(f"its {task} MAE" in note for note in notes)


def test_differences_are_paired_on_the_samples_of_both(small, report):
    benchmark, results = small
    rows = {each.method.name: each.rows for each in results}
    keys = [sample.key for sample in benchmark.samples if sample.task == "deblur"]
    block = next(
        b for b in table(report, 2)["blocks"] if b["title"].startswith("Difference to copy")
    )
    copy = next(r for r in table(report, 2)["rows"] if r["name"] == "copy")["intervals"]["MAE"]
    for line in block["rows"]:
        own = rows[line["name"]]
        both = [own[key]["mae"] - rows["copy"][key]["mae"] for key in keys if key in own]
        assert line["values"]["MAE"] == pytest.approx(np.mean(both), abs=1e-12)
        low, high = line["intervals"]["MAE"]
        assert low < line["values"]["MAE"] < high
        assert high - low < copy[1] - copy[0]  # unpaired it would be 1.4
    assert [b["title"].split(" on ")[0] for b in table(report, 2)["blocks"][1:4]] == [
        "Difference to copy",
        "Difference to uniform_blur",
        "Difference to good",
    ]


def test_partial_coverage_has_a_block_on_common_samples(small, report):
    block = table(report, 0)["blocks"][0]
    assert block["title"] == "On common samples: the 24 that every method covers"
    assert {row["values"]["samples"] for row in block["rows"]} == {24}
    half = next(row for row in table(report, 0)["rows"] if row["name"] == "bad on half")
    common = next(row for row in block["rows"] if row["name"] == "bad on half")
    assert common["values"] == half["values"]


def test_samples_are_all_in_the_csv(small, report):
    lines = list(csv.DictReader(io.StringIO(samples_csv(*small))))
    assert len(lines) == 6 * 240 + 120
    bad = [line for line in lines if line["method"] == "bad" and line["task"] == "deblur"]
    found = next(row for row in table(report, 2)["rows"] if row["name"] == "bad")
    assert np.mean([float(line["mae"]) for line in bad]) == pytest.approx(found["values"]["MAE"])
    assert {line["focus_hit"] for line in lines if line["task"] == "refocus"} == {"0", "1"}


@pytest.mark.slow  # a minute
@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
def test_150_scenes_and_8_methods_stay_below_15_mb_and_fit_wide_and_narrow_screens(tmp_path):
    benchmark, results = simulated(tmp_path / "benchmark", EIGHT)
    report = write(tmp_path / "report", benchmark, results)
    assert (report / "report.html").stat().st_size < 15e6
    fewer = benchmark._replace(scenes=benchmark.scenes[:2], samples=benchmark.samples[:20])
    write_pages(report, fewer, results)
    with Page(report / "report.html", tmp_path / "profile") as page:
        for width in (1400, 420):
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1}
            page.call("Emulation.setDeviceMetricsOverride", mobile=width < 500, **metrics)
            page.open((report / "report.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            shown = "[...document.images].filter(i => i.complete && i.naturalWidth > 0).length"
            assert page.evaluate(shown) == page.evaluate("document.images.length") == 3 * 10 * 14
            assert page.evaluate("document.querySelectorAll('svg').length") == 2
        links = page.evaluate("[...document.querySelectorAll('svg a')].map(a => a.href.baseVal)")
        assert len(links) == 3
        # A scene's page, and back
        page.open((report / "scenes" / "scene_000.html").as_uri())
        assert page.evaluate("document.images.length") == 10 * 14
        assert page.evaluate("document.querySelector('a').href").endswith("/report.html")
        assert page.requests == []
        assert page.errors == []
