"""The command line of `dofsuite.evaluate`: help without heavy imports, mistakes in one line."""

import subprocess
import sys
from dataclasses import fields

import pytest

from dofsuite.evaluate import SUBCOMMANDS, config_class, main


def test_help_names_every_subcommand_and_imports_nothing_heavy():
    code = (
        "import sys, contextlib\n"
        "from dofsuite.evaluate import main, parser_of\n"
        "main(['--help'])\n"
        f"[print(parser_of(name).format_help()) for name in {list(SUBCOMMANDS)}]\n"
        "assert not {'torch', 'diffusers', 'transformers', 'numpy'} & sys.modules.keys()\n"
    )
    text = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert all(f"    {name} " in text.stdout for name in SUBCOMMANDS)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_field_of_a_config_is_an_option_with_help(name):
    for field in fields(config_class(name)):
        assert field.metadata["help"]


def test_a_mistake_is_one_line(capsys):
    for words in (
        ["nothing"],
        ["run", "--nothing"],
        ["run"],
        ["run", "a", "--benchmark", "b", "--steps", "0"],
    ):
        assert main(words) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        assert words[-1] in text or "--" in text
