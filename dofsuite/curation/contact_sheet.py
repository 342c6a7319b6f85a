"""The contact sheet of the manual pass: a page of what the rules kept, to be looked through.

A click drops an image or takes it back; the button saves `decisions.csv` (name, keep or drop),
which `--decisions` reads. A CSV with every image kept lies beside the page, for other tools; where
one lies there already it stays, since it may be somebody's pass.
"""

import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path

from dofsuite.curation.merge import KEEP
from dofsuite.curation.report import small_image
from dofsuite.curation.scenes import Candidate
from dofsuite.curation.settings import Curation
from dofsuite.files import write_text

THUMB_PX = 240
IMAGES_A_PAGE = 500
# The page runs its own script and loads nothing.
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<title>{title}</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 1rem; color: #1b1b1b }}
header {{ position: sticky; top: 0; background: #fff; padding: .4rem 0; z-index: 1 }}
main {{ display: flex; flex-wrap: wrap; gap: 8px }}
button.image {{ border: 3px solid #fff; padding: 0; background: none; font: 11px system-ui;
  color: #666; cursor: pointer; max-width: 246px; overflow: hidden }}
button.image img {{ display: block }}
button.image[aria-pressed=true] {{ border-color: #c0392b; color: #c0392b }}
button.image[aria-pressed=true] img {{ opacity: .3 }}
</style></head><body><header><h1>{title}</h1>
<p>Click what is not sharp everywhere: it is dropped. Click again to keep it.
<button id="save">Save decisions</button> <output id="count">0 dropped</output></p></header><main>
"""
SCRIPT = """</main><script>
const images = [...document.querySelectorAll("button.image")];
const dropped = (image) => image.getAttribute("aria-pressed") === "true";
for (const image of images) image.onclick = () => {
  image.setAttribute("aria-pressed", String(!dropped(image)));
  document.getElementById("count").value = images.filter(dropped).length + " dropped";
};
document.getElementById("save").onclick = () => {
  const quoted = (text) => '"' + text.replaceAll('"', '""') + '"';
  const row = (image) => quoted(image.dataset.name) + "," + (dropped(image) ? "drop" : "keep");
  const text = ["name,decision", ...images.map(row), ""].join("\\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
  link.download = document.body.dataset.file;
  link.click();
};
</script></body></html>
"""


def write_contact_sheets(curation: Curation, candidates: Sequence[Candidate]) -> list[Path]:
    """Write `contact_sheet.html`, further pages of 500 images each, and a first `decisions.csv`.

    Raises:
        UserError: The folder cannot be written.
    """
    paths = []
    for number, start in enumerate(range(0, len(candidates), IMAGES_A_PAGE)):
        shown = candidates[start : start + IMAGES_A_PAGE]
        suffix = f"_{number + 1}" if number else ""
        title = f"Contact sheet: images {start + 1} to {start + len(shown)} of {len(candidates)}"
        page = PAGE.format(title=title).replace(
            "<body>", f"<body data-file='decisions{suffix}.csv'>"
        )
        parts = [page, *(_image(curation, candidate) for candidate in shown), SCRIPT]
        paths.append(curation.folder / f"contact_sheet{suffix}.html")
        write_text(paths[-1], "".join(parts))

    # Every image kept
    decisions = curation.folder / "decisions.csv"
    if decisions.exists():
        return paths
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["name", "decision"])
    writer.writerows([candidate.name, KEEP] for candidate in candidates)
    write_text(decisions, file.getvalue())
    return paths


def _image(curation: Curation, candidate: Candidate) -> str:
    name = html.escape(candidate.name, quote=True)
    found = small_image(curation, candidate.input_shard, candidate.row, THUMB_PX)
    return (
        f"<button class='image' aria-pressed='false' data-name=\"{name}\"><img alt='' "
        f"src='{found}'>{name}</button>\n"
    )
