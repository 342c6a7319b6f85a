"""What README.md tells a reader to type is there to be typed."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from dofsuite.data.__main__ import parser as data_parser
from dofsuite.evaluate import SUBCOMMANDS, parser_of
from dofsuite.experiment.command import read_command
from dofsuite.refocus.__main__ import parser as refocus_parser
from dofsuite.text2image.__main__ import parser as text2image_parser
from dofsuite.text2image.probe import F_NUMBERS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for language, block in BLOCKS
    if language == "bash"
    for line in block.splitlines()
]
PYTHON = [block for language, block in BLOCKS if language == "python"]


def commands(program: str) -> list[list[str]]:
    found = [
        shlex.split(line)[len(program.split()) :] for line in COMMANDS if line.startswith(program)
    ]
    assert found, f"README.md names no {program}"
    return found


def test_every_line_is_of_a_kind_that_is_tested_here():
    modules = ("fit", "evaluate", "refocus", "text2image", "data")
    kinds = ("make ", "sbatch ", *(f"python -m dofsuite.{module} " for module in modules))
    assert [line for line in COMMANDS if not line.startswith(kinds)] == []


def test_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([\w-]+)", README, flags=re.MULTILINE))
    assert {"quickstart", "test", "test-all", "lint"} <= named <= targets


def test_fit_commands_are_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    for words in commands("python -m dofsuite.fit"):
        assert read_command(words).file.is_file()


def test_refocus_commands_are_read():
    for words in commands("python -m dofsuite.refocus"):
        assert refocus_parser().parse_args(words).focus == (0.3, 0.6)


def test_text2image_commands_are_read():
    for words in commands("python -m dofsuite.text2image"):
        assert text2image_parser().parse_args(words).f_number == list(F_NUMBERS)


def test_evaluate_commands_are_read():
    asked = commands("python -m dofsuite.evaluate")
    for words in asked:
        parser_of(words[0]).parse_args(words[1:])
    assert {words[0] for words in asked} == set(SUBCOMMANDS)


def test_data_commands_are_read():
    for words in commands("python -m dofsuite.data"):
        assert data_parser().parse_args(words[words[0] == "pack" :]).folder == Path("photos")


def test_batch_scripts_and_their_arguments_exist():
    for words in commands("sbatch"):
        files = [word for word in words if not word.startswith("-")]
        assert len(files) == 3
        assert all((ROOT / file).is_file() for file in files)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.split("\n")[0][:40])
def test_python_blocks_parse_and_import_what_exists(block):
    tree = ast.parse(block)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        module = __import__(node.module, fromlist=["_"])
        assert all(hasattr(module, alias.name) for alias in node.names)


def test_pictures_exist():
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file()


def test_the_tree_names_every_room():
    rooms = {
        path.name
        for path in (ROOT / "dofsuite").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    assert [room for room in rooms if f"  {room}/" not in README] == []
