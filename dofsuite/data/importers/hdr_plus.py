"""HDR+ bursts: the finished photographs of phones, `results_20171023/BURST/final.jpg`.

Traps: neighboring bursts are of one scene seconds apart, so a day of a device is one side of the
split; `merged.dng` and the raw frames are not what a phone shows; a phone's lens is wide open and
what is close in front of it is blurred, so that the paper's sharpness threshold still applies.
"""

import re
from hashlib import sha256
from pathlib import Path

from dofsuite.data.importers.data_set import DataSet, Found, Photograph, Split
from dofsuite.data.packing.match_files import Pair
from dofsuite.errors import UserError

# DEVICE_YYYYMMDD_HHMMSS_mmm
BURST = re.compile(r"(?P<day>\w+_\d{8})_\d{6}_\d{3}")
# Of the days (*ours*).
VAL_SHARE = 0.05


def find(folder: Path) -> Found:
    """Read `results_20171023/BURST/final.jpg` at any depth.

    Raises:
        UserError: There is none.
    """
    photographs, others = [], 0
    for path in sorted(folder.rglob("final.jpg")):
        burst = BURST.fullmatch(path.parent.name)
        if burst is None:
            others += 1
            continue
        facts = {"scene": burst["day"], "phone": True}
        pair = Pair(path.parent.name, path, None)
        photographs.append(Photograph(pair, split_of(burst["day"]), facts))
    # At least one is needed
    if not photographs:
        raise UserError(
            f"{folder}: hdr_plus: there is no results_20171023/BURST/final.jpg in it; copy that "
            "folder (the raw bursts are not needed)."
        )
    left_out = {"final.jpg in a folder that is named by no burst": others} if others else {}
    return Found(photographs, [], left_out)


def split_of(day: str) -> Split:
    # By a hash of the name, so that more bursts change no one's side
    draw = int.from_bytes(sha256(day.encode()).digest()[:4]) / 2**32
    return "val" if draw < VAL_SHARE else "train"


DATA_SET = DataSet(
    name="hdr_plus",
    title="HDR+ burst photography data set",
    licence="CC BY-SA (its version was not verified)",
    source="Hasinoff et al., Burst photography for HDR and low-light imaging, SIGGRAPH Asia 2016",
    find=find,
)
