"""What the page computes: previews from cached layers, equivalent lenses, strokes, saved files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn.functional import interpolate

from dofsuite.app.overlay import DEPTH_COLORS, depth_overlay, stroke_opacity, with_focus_mark
from dofsuite.app.shot import Shot, animate, bokeh_level_of, develop, look, radius_map
from dofsuite.app.workspace import (
    NO_MODEL,
    Workspace,
    example_workspace,
    open_photo,
)
from dofsuite.errors import UserError
from dofsuite.lens import main as lens
from dofsuite.optics import Aperture, linear_to_srgb, render_bokeh, srgb_to_linear
from dofsuite.optics.fourier import FourierFrame
from dofsuite.photography import DepthEstimator, Photo, plane_depth
from tests.backbones.perception.test_relative_depth import save

SIZE = (90, 160)


@pytest.fixture
def photo_file(tmp_path):
    """A sideways JPEG (orientation 6) of 160 x 90 px, once it is upright, with its camera."""
    generator = np.random.default_rng(0)
    upright = generator.integers(0, 256, (9, 16, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769).update({0x920A: 50.0, 0xA405: 75})
    file = tmp_path / "sideways.jpg"
    Image.fromarray(np.rot90(upright).copy()).save(file, quality=95, exif=exif.tobytes())
    return file


@pytest.fixture
def workspace():
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(1, 3, 9, 16, generator=generator)
    photo = Photo(interpolate(blocks, SIZE, mode="bilinear")[0])
    depth = plane_depth((1.0, 0.5), (0.0, 0.5), SIZE)
    return Workspace(Path("photo.png"), photo, depth, "")


@pytest.fixture
def counted(monkeypatch):
    """How often layers were transformed forward, and any image at all."""
    counts = {"layers": 0, "rfft2": 0}
    forward, rfft2 = FourierFrame.forward, torch.fft.rfft2

    def counted_forward(*args, **kwargs):
        counts["layers"] += 1
        return forward(*args, **kwargs)

    def counted_rfft2(*args, **kwargs):
        counts["rfft2"] += 1
        return rfft2(*args, **kwargs)

    monkeypatch.setattr(FourierFrame, "forward", counted_forward)
    monkeypatch.setattr(torch.fft, "rfft2", counted_rfft2)
    return counts


def test_a_slider_or_a_click_asks_no_depth_model_and_transforms_no_layer(
    photo_file, tmp_path, counted
):
    save(tmp_path / "model", "relative")
    estimate = DepthEstimator(str(tmp_path / "model"))
    asked = []
    estimate.model.register_forward_hook(lambda *_: asked.append(1))
    workspace = open_photo(photo_file, estimate)
    start = Shot(focus=(0.5, 0.5), bokeh_level=60.0)
    before = look(workspace, start)
    assert (workspace.is_estimated, len(asked)) == (True, 1)
    assert counted["layers"] > 0
    # f-number, bokeh and focus move
    counted.update(layers=0, rfft2=0)
    moves = [
        replace(start, bokeh_level=80.0),
        replace(start, focus=(0.1, 0.9)),
        replace(start, f_number=1.4, focal_length_mm=50.0),
    ]
    for shot in moves:
        assert not torch.equal(look(workspace, shot), before)
    assert (len(asked), counted) == (1, {"layers": 0, "rfft2": 0})
    # Blades: their kernels are transformed, the layers are not
    look(workspace, replace(start, aperture=Aperture(5)))
    assert (len(asked), counted["layers"]) == (1, 0)


@pytest.mark.parametrize("aperture", [Aperture(), Aperture(5), Aperture(6, cat_eye=0.5)])
def test_the_preview_is_the_exact_renderer_s_where_all_is_blurred(aperture):
    """At 512 px and below nothing is reduced; 50 dB is what a screen's 8 bits can show."""
    photo, depth = example_workspace().photo, example_workspace().depth
    image = photo.image[:, 100:300, 200:400]
    crop = replace(depth, disparity=depth.disparity[..., 100:300, 200:400])
    workspace = Workspace(Path("photo.png"), Photo(image), crop, "")
    shot = Shot(focus=(0.9, 0.1), bokeh_level=12.0, aperture=aperture)
    radius_px, _ = radius_map(workspace, shot, crop)
    light = srgb_to_linear(image)[None]
    exact = render_bokeh(light, radius_px[None], "exact", aperture=aperture)
    error = look(workspace, shot) - linear_to_srgb(exact.clamp(0, 1))[0]
    assert -10 * error.square().mean().log10() > 50


def test_the_bokeh_level_of_an_f_number_has_the_thin_lens_s_radii(workspace):
    shot = Shot(focus=(0.7, 0.5), f_number=2.0, focal_length_mm=85.0, focus_m=3.0)
    radius_px, _ = radius_map(workspace, shot, workspace.depth)
    focus = workspace.depth.at(shot.focus)
    affine_px = bokeh_level_of(workspace, shot) * 160 / 512 * (workspace.depth.disparity - focus)
    # c = F^2 / (N (S - F)) (S / Z - 1): at infinity, which is disparity 0, -F^2 / (N (S - F))
    at_infinity_px = -(85**2) / (2 * (3000 - 85)) / 2 * 160 / 36
    assert torch.allclose(affine_px[0], radius_px, atol=1e-3)
    assert affine_px[..., :1].mean() == pytest.approx(at_infinity_px, rel=0.01)


def test_a_large_photograph_is_as_sharp_as_the_screen_where_it_is_in_focus():
    """Stripes of 2 px in 1024 px, which 512 px cannot hold, stay in the plane and go behind it."""
    stripes = torch.arange(1024).remainder(4).lt(2).float().expand(3, 400, -1) * 0.5 + 0.25
    depth = plane_depth((1.0, 0.5), (0.0, 0.5), (400, 1024))
    image = look(Workspace(Path("photo.png"), Photo(stripes), depth, ""), Shot(focus=(0.75, 0.5)))
    assert image.shape == (3, 400, 1024)
    assert torch.allclose(image[..., 767:769], stripes[..., 767:769], atol=0.03)
    assert image[..., 20:200].std() < 0.02 < stripes.std()


def test_a_phone_s_orientation_is_applied_and_the_plane_stands_in_without_a_model(photo_file):
    workspace = open_photo(photo_file, DepthEstimator("/no/such/folder"))
    assert workspace.photo.size == SIZE
    assert NO_MODEL in workspace.depth_source
    assert torch.equal(
        workspace.depth.disparity, plane_depth((0.5, 1.0), (0.5, 0.4), SIZE).disparity
    )


def test_text_named_as_a_photograph_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"text.jpg: it is not a JPEG, PNG, WebP, TIFF or HEIC im"):
        open_photo(tmp_path / "text.jpg", DepthEstimator(None))


def test_a_saved_photograph_is_the_lens_command_s_and_keeps_its_exif(photo_file, tmp_path):
    workspace = open_photo(photo_file, DepthEstimator("/no/such/folder"))
    shot = Shot(focus=(0.5, 0.8), bokeh_level=40.0, aperture=Aperture(6))
    saved = develop(workspace, shot, tmp_path / "saved", lambda done, total: None)
    assert saved.name == "sideways_bokeh40.jpg"
    words = ["--depth", "plane", "--focus", "0.5,0.8", "--bokeh", "40", "--blades", "6"]
    assert lens([str(photo_file), *words, "-o", str(tmp_path / "lens.jpg")]) == 0
    assert saved.read_bytes() == (tmp_path / "lens.jpg").read_bytes()
    assert Image.open(saved).getexif().get_ifd(0x8769)[0xA405] == 75


@pytest.mark.parametrize("sweep", ["aperture", pytest.param("focus", marks=pytest.mark.slow)])
def test_an_animation_has_its_frames_there_and_back(workspace, tmp_path, sweep):
    workspace = replace(workspace, path=tmp_path / "photo.png")
    path = animate(workspace, Shot(focus=(0.5, 0.5)), sweep, "gif", False, tmp_path)
    with Image.open(path) as file:
        assert (file.n_frames, file.size) == (2 * 12 - 2, (160, 90))


def test_a_stroke_sets_what_pillow_draws_and_undo_takes_it_back(workspace):
    points = [[0.25, 0.5], [0.75, 0.5]]
    opacity = stroke_opacity(points, 0.125, *SIZE)
    sheet = Image.new("L", (160, 90))
    ImageDraw.Draw(sheet).rectangle((40, 36, 120, 54), fill=255)
    inside = np.asarray(sheet)[40:50, 44:117] / 255
    assert torch.allclose(opacity[40:50, 44:117], torch.from_numpy(inside).float(), atol=0.02)
    assert opacity[:25].max() == opacity[:, :20].max() == 0
    painted = workspace.with_strokes(opacity, 0.25)
    assert torch.allclose(painted.depth.disparity[0, 0, 45, 50:110], torch.tensor(0.25), atol=1e-3)
    untouched = painted.depth.disparity[..., :25, :] == workspace.depth.disparity[..., :25, :]
    assert bool(untouched.all())
    assert painted.without_strokes().depth is workspace.depth
    with pytest.raises(UserError, match=r"There are no strokes"):
        workspace.without_strokes()


def test_a_click_of_the_brush_is_a_dot():
    opacity = stroke_opacity([[0.5, 0.5]], 0.25, *SIZE)
    area = 3.14159 * 20**2
    assert opacity.sum().item() == pytest.approx(area, rel=0.05)


def test_depth_is_colored_from_far_to_near_and_the_mark_is_around_the_point():
    white = torch.ones(3, 2, 40)
    overlay = depth_overlay(white, torch.linspace(0, 1, 40).expand(1, 2, 40), 1024)
    # Blue is far, orange is near
    assert overlay[2, 0, 0] > overlay[0, 0, 0]
    assert overlay[0, 0, -1] > overlay[2, 0, -1]
    assert len(DEPTH_COLORS) == 4
    marked = with_focus_mark(torch.full((3, 90, 160), 0.5), (0.25, 0.5))
    rows, columns = (marked != 0.5).any(0).nonzero().T
    assert (rows.float().mean().item(), columns.float().mean().item()) == pytest.approx((45, 40), 1)
    assert bool((marked[:, 45, 40] == 0.5).all())


def test_a_mark_at_the_corner_stays_within():
    marked = with_focus_mark(torch.zeros(3, 9, 16), (0.0, 0.99))
    assert marked.shape == (3, 9, 16)
