"""`--help` of every verb and subcommand: without torch, in less than half its import's time."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from dofsuite.bench import BENCHMARKS
from dofsuite.data.__main__ import DESCRIPTIONS
from dofsuite.evaluate import SUBCOMMANDS

ROOT = Path(__file__).parents[1]
IS_VERB = '__name__ == "__main__"'
RENAMED = "comparison.py"
"""Only says the command's new name."""

HEAVY = ("torch", "torchmetrics", "pytorch_lightning", "diffusers", "transformers", "scipy")
WORDS = {"evaluate": SUBCOMMANDS, "data": DESCRIPTIONS, "bench": BENCHMARKS}


def commands() -> list[list[str]]:
    """Module and words of every help, as `python -m` takes them."""
    files = [
        path
        for path in (ROOT / "dofsuite").rglob("*.py")
        if IS_VERB in path.read_text() and path.name != RENAMED
    ]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(files)]
    found = []
    for module in (name.removesuffix(".__main__") for name in modules):
        found.append([module, "--help"])
        subcommands = WORDS.get(module.removeprefix("dofsuite."), ())
        found += [[module, *name.split(), "--help"] for name in subcommands]
    return found


def test_every_help_comes_without_torch():
    """All of them in one Python, which says after each what it has loaded."""
    program = (
        "import contextlib, io, json, runpy, sys\n"
        "said = {}\n"
        f"for words in {commands()!r}:\n"
        "    sys.argv, text = words, io.StringIO()\n"
        "    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):\n"
        "        runpy.run_module(words[0], run_name='__main__', alter_sys=True)\n"
        f"    loaded = sorted(set({HEAVY!r}) & sys.modules.keys())\n"
        "    said[' '.join(words)] = [len(text.getvalue()), loaded]\n"
        "print(json.dumps(said))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert {name: loaded for name, (_, loaded) in said.items() if loaded} == {}
    assert [name for name, (length, _) in said.items() if length < 100] == []


def cpu_s(words: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, cwd=ROOT, capture_output=True, check=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.slow
def test_every_help_takes_less_than_half_of_importing_torch():
    run = [sys.executable, "-m"]
    floor = min(cpu_s([sys.executable, "-c", "import torch"]) for _ in range(2))
    shares = {" ".join(words): cpu_s([*run, *words]) / floor for words in commands()}
    slowest = max(shares, key=lambda name: shares[name])
    print(f"import torch {floor:.2f} s CPU; slowest help {slowest}: {shares[slowest]:.2f} of it")
    assert {name: share for name, share in shares.items() if share > 0.5} == {}
