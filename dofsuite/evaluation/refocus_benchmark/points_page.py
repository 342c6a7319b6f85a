"""A page in which a person clicks the points of a benchmark's pictures and saves them as a CSV.

One HTML file: pictures, depth and script are in it, and its policy lets it ask for nothing else.
What was clicked is kept in the browser until the CSV is saved.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from dofsuite.evaluation.refocus_benchmark.points import COLUMNS
from dofsuite.evaluation.report import image_uri

SHOWN_PX = 512
"""Pictures are shown no larger."""


class PageScene(NamedTuple):
    """A scene's picture [1, 3, h, w] and disparity [1, 1, h, w], both in [0, 1]."""

    scene: str
    image: Tensor
    disparity: Tensor


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>Points to focus on</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1120px; padding: 0 1rem 4rem; color: #1b1b1b }
header { position: sticky; top: 0; background: #fff; padding: .6rem 0; border-bottom: 1px solid #ddd; z-index: 1 }
section { margin: 1.2rem 0 }
.pair { display: flex; gap: 8px; flex-wrap: wrap }
.view { position: relative; cursor: crosshair; line-height: 0 }
.view img { width: 512px; max-width: 46vw; image-rendering: auto }
.dot { position: absolute; transform: translate(-50%, -50%); width: 20px; height: 20px; border-radius: 50%;
 border: 2px solid #fff; background: #d22c; color: #fff; font: bold 12px/20px system-ui; text-align: center;
 pointer-events: none }
.close { color: #b00 }
</style></head><body>
<header><b>Points to focus on.</b> In each picture click 1 and 2, two things at different depths; they are focused in
turn. A third click, if you like, is the point for adding bokeh (else point 1). Clicking again starts anew.
<button id="save">Save points.csv</button> <span id="count"></span></header>
<main></main>
<script type="application/json" id="scenes">__SCENES__</script>
<script>
"use strict";
const scenes = JSON.parse(document.getElementById("scenes").textContent);
const GAP = __GAP__, COLUMNS = __COLUMNS__, STORE = "dofsuite-points-" + scenes.map(s => s.scene).join().length;
let points = {};
try { points = JSON.parse(localStorage.getItem(STORE)) || {}; } catch (e) { points = {}; }

function disparityAt(scene, [x, y]) {
  const bytes = scene.bytes, n = scene.depth_side;
  return bytes[Math.min(n - 1, Math.floor(y * n)) * n + Math.min(n - 1, Math.floor(x * n))] / 255;
}
function show(scene) {
  const chosen = points[scene.scene] || [];
  for (const view of scene.views) {
    view.querySelectorAll(".dot").forEach(dot => dot.remove());
    chosen.forEach(([x, y], i) => {
      const dot = document.createElement("span");
      dot.className = "dot"; dot.textContent = i + 1;
      dot.style.left = 100 * x + "%"; dot.style.top = 100 * y + "%";
      view.append(dot);
    });
  }
  const gap = chosen.length > 1 ? Math.abs(disparityAt(scene, chosen[0]) - disparityAt(scene, chosen[1])) : null;
  const close = gap !== null && gap < GAP;
  scene.note.textContent = gap === null ? "" : `planes ${gap.toFixed(2)} apart${close ? ": rather close" : ""}`;
  scene.note.className = close ? "close" : "";
  const done = scenes.filter(s => (points[s.scene] || []).length > 1).length;
  document.getElementById("count").textContent = done + " of " + scenes.length + " pictures done";
}
function clicked(scene, view, event) {
  const box = view.getBoundingClientRect();
  const at = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
    .map(v => Math.min(1, Math.max(0, v)));
  const chosen = points[scene.scene] || [];
  points[scene.scene] = chosen.length >= 3 ? [at] : [...chosen, at];
  try { localStorage.setItem(STORE, JSON.stringify(points)); } catch (e) { /* a private window keeps nothing */ }
  show(scene);
}
function csv() {
  const lines = scenes.filter(s => (points[s.scene] || []).length > 1).map(s => {
    const flat = points[s.scene].flat().map(v => v.toFixed(6));
    return [s.scene, ...flat, ...Array(COLUMNS.length - flat.length).fill("")].join(",");
  });
  return [["scene", ...COLUMNS].join(","), ...lines].join("\\n") + "\\n";
}
for (const scene of scenes) {
  const section = document.createElement("section"), pair = document.createElement("div");
  const title = document.createElement("h3");
  title.textContent = scene.scene + " ";
  scene.note = document.createElement("small"); title.append(scene.note);
  scene.bytes = Uint8Array.from(atob(scene.depth_bytes), c => c.charCodeAt(0));
  pair.className = "pair"; scene.views = [];
  for (const [what, address] of [["picture", scene.image], ["depth, near is bright", scene.depth]]) {
    const view = document.createElement("div"), img = document.createElement("img");
    view.className = "view"; img.src = address; img.alt = scene.scene + ": " + what; img.draggable = false;
    view.append(img); view.addEventListener("click", event => clicked(scene, view, event));
    scene.views.push(view); pair.append(view);
  }
  section.append(title, pair); document.querySelector("main").append(section); show(scene);
}
document.getElementById("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "points.csv"; link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
</script></body></html>
"""


def points_page(pictures: Sequence[PageScene], plane_gap: float) -> str:
    """Return the page.

    Args:
        pictures: The scenes, in the order of the CSV.
        plane_gap: Below this distance in disparity the page says that two points are rather close.
    """
    scenes = json.dumps([scene_data(picture) for picture in pictures]).replace("<", "\\u003c")
    filled = {
        "__SCENES__": scenes,
        "__GAP__": json.dumps(plane_gap),
        "__COLUMNS__": json.dumps(COLUMNS),
    }
    page = PAGE
    for name, text in filled.items():
        page = page.replace(name, text)
    return page


def scene_data(picture: PageScene) -> dict[str, object]:
    """Return what the page's script knows of a scene."""
    image = shown(picture.image[0].permute(1, 2, 0).numpy(), "RGB")
    depth = shown(picture.disparity[0, 0].numpy(), "L")
    small = np.asarray(depth.resize((128, 128), Image.Resampling.NEAREST))
    return {
        "scene": picture.scene,
        "image": image_uri(image, "JPEG"),
        "depth": image_uri(depth, "PNG"),
        "depth_side": 128,
        "depth_bytes": base64.b64encode(small.tobytes()).decode(),
    }


def shown(values: np.ndarray, mode: str) -> Image.Image:
    """Return an array in [0, 1] as a picture of at most `SHOWN_PX`."""
    picture = Image.fromarray((values * 255).round().astype(np.uint8), mode)
    picture.thumbnail((SHOWN_PX, SHOWN_PX), Image.Resampling.LANCZOS)
    return picture
