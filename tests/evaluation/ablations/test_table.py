"""`evaluate table`: run folders of `fit --sweep`, means and spreads of NumPy, rows by what differs,
and mistakes.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from dofsuite.evaluate import main
from dofsuite.evaluation.ablations.sweep_runs import (
    differing_keys,
    group_runs,
    in_order,
    read_runs,
    run_of,
    short_keys,
)
from dofsuite.evaluation.report import write_report
from dofsuite.evaluation.tables import RunVariant, Table
from dofsuite.experiment.command import read_command, read_sweep
from dofsuite.experiment.experiment import read_experiment
from dofsuite.files import write_json
from dofsuite.fit import main as fit
from tests.evaluation.small_benchmark import build, tiny_run, write_scenes
from tests.tiny_runs import EXPERIMENT

ROOT = Path(__file__).parents[3]
WIDTH = "--model.init_args.schedule.width"
RATE = "--model.init_args.schedule.learning_rate"
SWEEP = f"""# two widths, three seeds each
{WIDTH} 4 --seed_everything 0
{WIDTH} 4 --seed_everything 1
{WIDTH} 4 --seed_everything 2
{WIDTH} 6 --seed_everything 0
{WIDTH} 6 --seed_everything 1
"""
LVCORR = [0.91, 0.95, 0.9, 0.7, 0.8]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder in which `fit` ran every line of a sweep, with the numbers of a probe in each
    run.
    """
    folder = tmp_path_factory.mktemp("swept")
    content = {**EXPERIMENT, "trainer": {**EXPERIMENT["trainer"], "max_steps": 1}}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
        Path("x.yaml").write_text(yaml.safe_dump(content))
        Path("ablation_width.txt").write_text(SWEEP)
        for index in range(5):
            words = [
                "x.yaml",
                "--sweep",
                "ablation_width.txt",
                "--index",
                str(index),
                "--allow-import",
                "tests",
            ]
            assert fit(words) == 0
            probe = {"lvcorr": LVCORR[index], "mae": 0.04}
            write_json(
                f"runs/ablation_width/{index}/metrics.json",
                {"step": 1, "probe": probe, "levels": [5, 10]},
            )
    return folder


@pytest.fixture
def runs(swept, tmp_path, monkeypatch):
    """A copy of it, in which the test runs."""
    shutil.copytree(swept, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path("runs/ablation_width")


def tables(*paths, more=()):
    """Run the command; {table title: {row name: {column: value}}}, and the first table's notes."""
    assert main(["table", *map(str, paths), "-o", "out", *more]) == 0
    found = json.loads(Path("out/report.json").read_text())["tables"]
    return {t["title"]: {row["name"]: row["values"] for row in t["rows"]} for t in found}, found[0][
        "notes"
    ]


def test_lines_that_differ_in_the_seed_alone_are_one_row_with_mean_and_spread(runs):
    found, _ = tables(*sorted(runs.iterdir()))
    rows = found["Last validation"]
    assert list(rows) == ["schedule.width 4", "schedule.width 6"]
    for name, values in (("schedule.width 4", LVCORR[:3]), ("schedule.width 6", LVCORR[3:])):
        assert rows[name]["runs"] == len(values)
        assert rows[name]["lvcorr"] == pytest.approx(np.mean(values), abs=1e-12)
        assert rows[name]["± lvcorr"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert rows[name]["± mae"] == pytest.approx(0, abs=1e-12)
    text = Path("out/report.md").read_text()
    assert "| schedule.width 4 | 3 | 0.9200 | 0.0265 | 0.0400 | 0.0000 |" in text
    assert "runs/ablation_width/1 (seed 1)" in text


def test_rows_are_compared_between_seeds_by_welchs_interval(runs, capsys):
    tables(*sorted(runs.iterdir()))
    (block,) = json.loads(Path("out/report.json").read_text())["tables"][0]["blocks"]
    (row,) = block["rows"]
    assert row["name"] == "schedule.width 6"
    assert row["values"]["lvcorr"] == pytest.approx(np.mean(LVCORR[3:]) - np.mean(LVCORR[:3]))
    low, high = row["intervals"]["lvcorr"]
    theirs = stats.ttest_ind(LVCORR[3:], LVCORR[:3], equal_var=False).confidence_interval()
    assert low <= theirs.low < theirs.high <= high  # our degrees of freedom are rounded down
    assert "mae" not in row["intervals"]  # nothing varies
    assert "Difference to schedule.width 4 between seeds" in capsys.readouterr().out


def test_a_single_seed_has_no_spread(runs):
    found, _ = tables(runs / "0", runs / "3")
    assert found["Last validation"]["schedule.width 6"] == {"runs": 1, "lvcorr": 0.7, "mae": 0.04}


def test_files_among_the_runs_are_passed_over_and_unfinished_runs_left_out(runs):
    (runs / "notes.txt").write_text("a log")
    (runs / "1" / "finished.json").unlink()
    (runs / "7").mkdir()
    found, notes = tables(*runs.iterdir())
    assert found["Last validation"]["schedule.width 4"]["runs"] == 2
    assert notes == [
        f"left out: {runs}/1: not finished",
        f"left out: {runs}/7: no run (it has no config.yaml)",
    ]
    found, _ = tables(*runs.iterdir(), more=["--unfinished"])
    assert found["Last validation"]["schedule.width 4"]["runs"] == 3


def test_a_number_that_a_run_lacks_has_no_mean(runs):
    write_json(runs / "1" / "metrics.json", {"step": 1, "probe": {"mae": 0.04}})
    row = tables(*runs.iterdir())[0]["Last validation"]["schedule.width 4"]
    assert (row["runs"], row["lvcorr"], row["± lvcorr"]) == (3, None, None)
    assert row["mae"] == pytest.approx(0.04)


def evaluated(folder, rows):
    """A report as `evaluate run` writes it: rows of the paper and of `copy`, and of runs beside the
    folder's.
    """
    title = "Tables 3 to 6: all sub-tasks and two of them"
    runs = {
        name: RunVariant(folder.resolve().parent / name.split(", ")[0], name.partition(", ")[2])
        for name, _ in rows
    }
    rows = [("paper, DiffCamera", [None, 0.03]), ("copy", [8, 0.05]), *rows]
    table = Table(title, ("samples", "all MAE"), rows, runs=runs)
    write_report(folder / "benchmark" / "bench", "Refocus benchmark", [table], [], {})
    return f"benchmark/bench: {title}"


def test_reports_of_runs_are_collected_each_way_of_evaluating_a_row(runs):
    for index, mae in enumerate([0.02, 0.03, 0.04]):
        title = evaluated(
            runs / str(index), [(str(index), [8, mae]), (f"{index}, zero depth", [8, mae + 0.01])]
        )
    rows = tables(*runs.iterdir())[0][title]
    assert list(rows) == ["schedule.width 4", "schedule.width 4, zero depth"]
    assert rows["schedule.width 4"]["all MAE"] == pytest.approx(0.03)
    assert rows["schedule.width 4"]["± all MAE"] == pytest.approx(0.01)
    assert rows["schedule.width 4, zero depth"]["all MAE"] == pytest.approx(0.04)


def test_one_evaluation_of_several_runs_counts_for_each(runs):
    title = evaluated(runs / "0", [(str(index), [8, 0.01 * (index + 1)]) for index in range(5)])
    rows = tables(*runs.iterdir())[0][title]
    assert rows["schedule.width 4"]["all MAE"] == pytest.approx(0.02)
    assert rows["schedule.width 6"]["all MAE"] == pytest.approx(0.045)


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    return build(
        write_scenes(tmp_path_factory.mktemp("scenes"), 1),
        tmp_path_factory.mktemp("built") / "bench",
    )


def test_runs_of_one_name_are_found_however_their_paths_are_spelt(
    runs, benchmark, tmp_path, monkeypatch
):
    for sweep in ("ablation_width", "ablation_rate"):
        if sweep != "ablation_width":
            shutil.copytree(runs / "0", runs.parent / sweep / "0")
        tiny_run(runs.parent / sweep / "0")
    first, second = (runs.parent / sweep / "0" for sweep in ("ablation_width", "ablation_rate"))
    arguments = [
        "../runs/ablation_width/0/export",
        str(second.resolve()),
        "--depth",
        "given",
        "zero",
    ]
    monkeypatch.chdir("runs")
    assert (
        main(
            [
                "run",
                *arguments,
                "--benchmark",
                str(benchmark),
                "--clip",
                "none",
                "--sheet-scenes",
                "0",
            ]
        )
        == 0
    )
    monkeypatch.chdir("..")
    shutil.move("runs", "moved")  # a report knows its runs wherever all of them go
    (tmp_path / "link").symlink_to(Path("moved").resolve())
    first, second = (tmp_path / "link" / one.relative_to("runs") for one in (first, second))
    report = json.loads((first / "benchmark" / "bench" / "report.json").read_text())
    title = report["tables"][3]["title"]
    theirs = {row["name"]: row["values"] for row in report["tables"][3]["rows"]}
    found, notes = tables(first, second)
    rows = found[f"benchmark/bench: {title}"]
    for sweep in ("ablation_width", "ablation_rate"):
        for variant in ("", ", zero depth"):
            mae = rows[f"{sweep}: 0{variant}"]["all MAE"]
            assert mae == theirs[f"{sweep}/0{variant}"]["all MAE"] > 0
    assert notes == []
    _, notes = tables(first)
    report = f"{first}/benchmark/bench/report.json"
    assert notes == [
        f"left out: {report}: rows of {second.resolve()}, which is none of the runs given"
    ]


def test_a_report_that_does_not_say_whose_rows_are_is_noted(runs):
    evaluated(runs / "0", [("0", [8, 0.02])])
    path = runs / "0" / "benchmark" / "bench" / "report.json"
    report = json.loads(path.read_text())
    del report["tables"][0]["rows"][-1]["run"]
    path.write_text(json.dumps(report))
    found, notes = tables(runs / "0")
    assert list(found) == ["Last validation"]
    assert notes[0].startswith(
        f"left out: {path}: rows of 0, which does not say its run: evaluate it again"
    )


def test_several_sweeps_are_in_one_table_and_compared_within_themselves(runs):
    other = runs.parent / "ablation_rate"
    shutil.copytree(runs / "0", other / "0")
    shutil.copytree(runs / "0", other / "1")
    config = yaml.safe_load((other / "1" / "config.yaml").read_text())
    config["model"]["init_args"]["schedule"]["learning_rate"] = 0.5
    (other / "1" / "config.yaml").write_text(yaml.safe_dump(config))
    rows = tables(*runs.parent.glob("ablation_*/*"))[0]["Last validation"]
    assert list(rows) == [
        "ablation_rate: schedule.learning_rate 0.02",
        "ablation_rate: schedule.learning_rate 0.5",
        "ablation_width: schedule.width 4",
        "ablation_width: schedule.width 6",
    ]


def test_seeds_anywhere_are_seeds_and_machines_do_not_count(tmp_path):
    one = {
        "seed_everything": 0,
        "model": {"init_args": {"seed": 1, "rank": 4}},
        "trainer": {"devices": 1},
    }
    two = {
        "seed_everything": 5,
        "model": {"init_args": {"seed": 2, "rank": 4}},
        "trainer": {"devices": 8},
    }
    three = {**two, "model": {"init_args": {"seed": 2, "rank": 8}}}
    found = [
        run_of(tmp_path / "sweep" / str(n), config) for n, config in enumerate((one, two, three))
    ]
    assert [(group.name, len(group.runs)) for group in group_runs(found)] == [
        ("rank 4", 2),
        ("rank 8", 1),
    ]
    assert [(group.name, len(group.runs)) for group in group_runs(found[:2])] == [("0, 1", 2)]


def test_of_classes_their_names_tell_runs_apart_and_not_their_own_arguments(tmp_path):
    def config(name, **arguments):
        return {
            "model": {"init_args": {"lens": {"class_path": f"a.b.{name}", "init_args": arguments}}}
        }

    pair = [config("Disc", layers=3, gamma=1.0), config("Gather", taps=5, gamma=2.2)]
    found = [run_of(tmp_path / "sweep" / str(n), one) for n, one in enumerate(pair)]
    key = "model.init_args.lens"
    assert differing_keys(found) == [f"{key}.class_path", f"{key}.init_args.gamma"]
    assert [group.name for group in group_runs(found)] == [
        "lens Disc, lens.gamma 1.0",
        "lens Gather, lens.gamma 2.2",
    ]


def test_keys_are_as_short_as_tells_them_apart():
    keys = [
        "model.init_args.stacking.weight",
        "model.init_args.depth_dropout",
        "a.b.c.x",
        "d.b.c.x",
    ]
    assert list(short_keys(keys).values()) == [
        "stacking.weight",
        "depth_dropout",
        "a.b.c.x",
        "d.b.c.x",
    ]


def test_run_ten_comes_after_run_nine():
    names = [f"runs/s/{n}" for n in (10, 9, 0)]
    assert [path.name for path in sorted(map(Path, names), key=in_order)] == ["0", "9", "10"]


@pytest.mark.parametrize("name", ["ablation_data", "ablation_depth", "ablation_stacking"])
def test_the_sweeps_that_are_shipped_have_rows_of_their_own(tmp_path, name):
    """Each line's resolved experiment but for its seeds makes one row, named for the overrides that
    differ.
    """
    sweep = ROOT / "experiments" / "sweeps" / f"{name}.txt"
    lines = read_sweep(sweep)
    overrides = [
        {key: value for key, value in zip(line[::2], line[1::2], strict=True) if "seed" not in key}
        for line in lines
    ]
    read = [number for number, own in enumerate(overrides) if own not in overrides[:number]]
    settings = [overrides[number] for number in read]
    assert [overrides.count(own) for own in settings] == [len(lines) // len(settings)] * len(
        settings
    )
    read.append(
        len(lines) - 1
    )  # the last setting's last seed; reading an experiment takes a second
    words = [str(ROOT / "experiments" / "refocus_flux_512.yaml"), "--sweep", str(sweep), "--index"]
    configs = [read_experiment(read_command([*words, str(index)])).config for index in read]
    groups = group_runs(
        [
            run_of(tmp_path / name / str(index), config)
            for index, config in zip(read, configs, strict=True)
        ]
    )
    assert [len(group.runs) for group in groups] == [1] * (len(settings) - 1) + [2]
    for group, own_settings in zip(groups, settings, strict=True):
        named = dict(part.split(" ") for part in group.name.split(", "))
        for key, value in own_settings.items():
            key = key.replace(".init_args", "")
            short = next(name for name in named if key.endswith(name))
            assert named[short] == value


def test_mistakes_are_one_sentence(runs, capsys):
    assert main(["table", "runs/nothing"]) == 2
    assert "runs/nothing: there is no such run" in capsys.readouterr().err
    assert main(["table", "runs"]) == 2
    assert "none of the 1 paths is a finished run" in capsys.readouterr().err
    (runs / "0" / "metrics.json").write_text("{")
    assert main(["table", str(runs / "0")]) == 2
    assert "metrics.json: it is no JSON object" in capsys.readouterr().err
    (runs / "0" / "metrics.json").unlink()
    report = runs / "0" / "benchmark" / "bench" / "report.json"
    for tables in ([{}], [[]], 3, [{"title": "t", "rows": [{"name": "0", "values": 3}]}]):
        write_json(report, {"tables": tables})
        assert main(["table", str(runs / "0")]) == 2
        assert capsys.readouterr().err.startswith(
            f"{report}: it is no report of dofsuite; delete it"
        )
    report.unlink()
    assert main(["table", str(runs / "0")]) == 2
    assert "no run has numbers" in capsys.readouterr().err
    assert read_runs([runs / "1"])[0][0].name == "1"
