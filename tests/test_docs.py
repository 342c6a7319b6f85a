"""What README, CONTRIBUTING and docs/ tell a reader to type, open or look at is there."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import torch

from dofsuite.app.__main__ import AppConfig
from dofsuite.app.__main__ import parser as app_parser
from dofsuite.bench import BENCHMARKS, module_of
from dofsuite.bench import parser_of as bench_parser
from dofsuite.cli import config_from
from dofsuite.curate import parser as curate_parser
from dofsuite.curation.config import CurateConfig
from dofsuite.data.__main__ import COMMANDS as DATA_COMMANDS
from dofsuite.data.__main__ import parser as data_parser
from dofsuite.evaluate import SUBCOMMANDS, parser_of, split_words
from dofsuite.experiment.command import read_command
from dofsuite.lens import parser as lens_parser
from dofsuite.photography.config import LensConfig
from dofsuite.refocus.__main__ import parser as refocus_parser
from dofsuite.refocus.measure import parser as measure_parser
from dofsuite.refocus.measure_config import MeasureConfig
from dofsuite.simulate import parser as simulate_parser
from dofsuite.simulation.config import SimulateConfig
from dofsuite.text2image.__main__ import parser as text2image_parser
from dofsuite.training.checkpoints.__main__ import parser as checkpoints_parser

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
MODULES = (
    *(
        "fit",
        "evaluate",
        "lens",
        "bench",
        "refocus",
        "refocus.measure",
        "text2image",
        "data",
        "app",
        "simulate",
        "curate",
    ),
    "training.checkpoints",
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


LINES = [
    (page.name, line.split("  #")[0].strip())
    for page in PAGES
    for block in blocks(page, "bash")
    for line in block.splitlines()
]


def commands(program: str) -> list[list[str]]:
    """The arguments of every command of a program."""
    start = len(program.split())
    found = [shlex.split(line)[start:] for _, line in LINES if f"{line} ".startswith(f"{program} ")]
    assert found, f"no page names {program}"
    return found


# --- commands ---


def test_every_line_is_of_a_kind_that_is_tested_here() -> None:
    kinds = ("make ", "sbatch ", *(f"python -m dofsuite.{module} " for module in MODULES))
    assert [line for line in LINES if not f"{line[1]} ".startswith(kinds)] == []


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, flags=re.MULTILINE))
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?:^|`)make ([\w-]+)", text, flags=re.MULTILINE))
    assert {"quickstart", "test", "test-all", "lint"} <= named <= targets


def test_fit_commands_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for words in commands("python -m dofsuite.fit"):
        if "--count" in words or "--print_config" in words:
            words = [word for word in words if word not in ("--count", "--print_config")]
            words += ["--index", "0"] if "--sweep" in words else []
        assert read_command(words).file.is_file()


def test_lens_commands_are_read() -> None:
    for words in commands("python -m dofsuite.lens"):
        assert config_from(LensConfig, lens_parser().parse_args(words)).photos


def test_simulate_commands_are_read() -> None:
    for words in commands("python -m dofsuite.simulate"):
        assert config_from(SimulateConfig, simulate_parser().parse_args(words)).variants > 1


def test_refocus_and_text2image_commands_are_read() -> None:
    for words in commands("python -m dofsuite.refocus"):
        assert refocus_parser().parse_args(words).focus
    for words in commands("python -m dofsuite.text2image"):
        assert text2image_parser().parse_args(words).f_number


def test_measure_commands_are_read() -> None:
    for words in commands("python -m dofsuite.refocus.measure"):
        assert config_from(MeasureConfig, measure_parser().parse_args(words)).count >= 1


def test_bench_commands_are_read_and_each_is_named() -> None:
    found = commands("python -m dofsuite.bench")
    assert {words[0] for words in found} == set(BENCHMARKS)
    for name, *words in found:
        config_from(module_of(name).Config, bench_parser(name).parse_args(words))


def test_app_commands_are_read() -> None:
    for words in commands("python -m dofsuite.app"):
        assert config_from(AppConfig, app_parser().parse_args(words)).port in (None, 7870)


def test_evaluate_commands_are_read_and_each_is_named() -> None:
    given = [split_words(words) for words in commands("python -m dofsuite.evaluate")]
    for name, words in given:
        parser_of(name).parse_args(words)
    assert {name for name, _ in given} == set(SUBCOMMANDS)


def test_data_commands_are_read_and_each_is_named() -> None:
    given = commands("python -m dofsuite.data")
    for words in given:
        data_parser(words[0]).parse_args(words[1:])
    assert {words[0] for words in given} == set(DATA_COMMANDS)


def test_curate_commands_are_read() -> None:
    for words in commands("python -m dofsuite.curate"):
        assert config_from(CurateConfig, curate_parser().parse_args(words)).part_and_parts()


def test_batch_scripts_and_their_arguments_exist() -> None:
    for words in commands("sbatch"):
        files = [word for word in words if not word.startswith("-")]
        given = [file for file in files if not file.isdecimal() and file != "true"]
        assert len(given) == (3 if "experiments/slurm/array.sbatch" in given else 2)
        assert all((ROOT / file).is_file() for file in given)


def test_checkpoint_commands_are_read() -> None:
    for words in commands("python -m dofsuite.training.checkpoints"):
        assert checkpoints_parser().parse_args(words).output


# --- Python ---

PYTHON = [(page.name, block) for page in PAGES for block in blocks(page, "python")]


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=lambda value: value.split("\n")[0][:40])
def test_python_blocks_parse_and_import_what_exists(page: str, block: str) -> None:
    imports = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        module = __import__(str(node.module), fromlist=["_"])
        assert all(hasattr(module, alias.name) for alias in node.names)


def test_examples_of_the_metrics_run() -> None:
    names: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "metrics.md", "python"):
        exec(compile(block, "docs/metrics.md", "exec"), names)
    for name in ("metric", "gain", "hits", "monotonicity", "consistency"):
        assert torch.isfinite(names[name].compute()), name  # type: ignore[attr-defined]


def test_readme_s_examples_that_need_no_model_run() -> None:
    names: dict[str, object] = {
        "all_in_focus": torch.rand(1, 3, 16, 24),
        "disparity": torch.rand(1, 1, 16, 24),
        "sweep": torch.rand(2, 4, 3, 16, 16),
    }
    ran = 0
    for block in blocks(README, "python"):
        if "Pipeline" not in block:
            exec(compile(block, "README.md", "exec"), names)
            ran += 1
    assert ran == 2
    assert names["image"].shape == (1, 3, 16, 24)  # type: ignore[attr-defined]


# --- the pages ---


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_images_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]
            assert anchor in slugs, target


def test_readme_is_a_front_door() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= 220
    assert [line for line in lines if len(line) > 120] == []


def test_the_tree_names_every_room() -> None:
    rooms = {
        path.name for path in (ROOT / "dofsuite").iterdir() if (path / "__init__.py").is_file()
    }
    text = README.read_text()
    assert [room for room in rooms if f"  {room}/" not in text] == []
