"""How long imports and commands take, over `import torch` in the same minutes."""

import subprocess
import sys
import time
from collections.abc import Iterator

from dofsuite.benchmarks.config import StartupConfig as Config
from dofsuite.benchmarks.measurement import Measurement

PEER = "import torch"
# Name -> program; what answers before a run begins should take less than torch itself.
PROGRAMS = {
    "import dofsuite": "import dofsuite",
    "import dofsuite.optics": "import dofsuite.optics",
    "import dofsuite.metrics": "import dofsuite.metrics",
    "render_bokeh": "from dofsuite.optics import render_bokeh",
    "LVCorr": "from dofsuite.metrics import LVCorr",
    "fit --help": "from dofsuite.fit import main; main(['--help'])",
    "evaluate --help": "from dofsuite.evaluate import main; main(['--help'])",
    "RefocusPipeline": "from dofsuite.refocus import RefocusPipeline",
    "Text2ImagePipeline": "from dofsuite.text2image import Text2ImagePipeline",
}


def measure(config: Config) -> Iterator[Measurement]:
    """One line a program: its best time, and that of `import torch` as the floor."""
    # In turns, so that a busy moment hits all of them
    programs = {PEER: PEER, **PROGRAMS}
    best_s = dict.fromkeys(programs, float("inf"))
    for _ in range(config.runs):
        for name, program in programs.items():
            best_s[name] = min(best_s[name], seconds_of(program))
    for name in PROGRAMS:
        yield Measurement(
            what=f"startup {name}",
            setting={"runs": config.runs, "floor": PEER},
            time_ms=1e3 * best_s[name],
            floor_ms=1e3 * best_s[PEER],
            machine={"device": "cpu", "python": sys.version.split()[0]},
        )


def seconds_of(program: str) -> float:
    """Seconds of a Python of its own that runs a program, which must succeed."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
