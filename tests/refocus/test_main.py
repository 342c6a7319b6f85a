"""`python -m dofsuite.refocus`: any photograph in, one image out, or one sentence and exit code
2.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dofsuite.images import decode_image, image_values
from dofsuite.photography import Photo, write_photo
from dofsuite.refocus import RefocusPipeline
from dofsuite.refocus.__main__ import main
from tests.refocus.tiny import tiny_module


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    module = tiny_module()
    module.trained_size_px = 32
    folder = tmp_path_factory.mktemp("run")
    module.export(folder / "export")
    return folder


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).save(path, quality=95)
    return path


def run(photo, model, out, *more, focus="0.3,0.6", bokeh="8"):
    return main(
        [
            str(photo),
            "--focus",
            focus,
            "--bokeh",
            bokeh,
            "--model",
            str(model),
            "-o",
            str(out),
            *more,
        ]
    )


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.webp"])
def test_a_photograph_is_refocused_in_its_shape(photo, model, tmp_path, name, capsys):
    assert run(photo, model, tmp_path / name) == 0
    with Image.open(tmp_path / name) as image:
        assert image.size == (40, 28)
    assert "40x28" in capsys.readouterr().out


def test_a_depth_map_changes_the_picture_and_the_same_seed_does_not(photo, model, tmp_path):
    depth = tmp_path / "photo_depth.png"
    ramp = np.linspace(0, 65535, 60 * 90).reshape(60, 90).astype(np.uint16)
    Image.fromarray(ramp).save(depth)
    for name, more in (
        ("a", []),
        ("b", []),
        ("c", ["--depth", str(depth)]),
        ("d", ["--seed", "1"]),
    ):
        assert run(photo, model, tmp_path / f"{name}.png", *more) == 0
    images = [(tmp_path / f"{name}.png").read_bytes() for name in "abcd"]
    assert images[0] == images[1]
    assert len(set(images)) == 3


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGBA", ".png"), ("CMYK", ".jpg"), ("L", ".png"), ("I;16", ".png"), ("P", ".png")],
)
def test_any_kind_of_picture_is_read(mode, suffix, model, tmp_path):
    path = tmp_path / f"photo{suffix}"
    image = (
        Image.new("I;16", (40, 40))
        if mode == "I;16"
        else Image.new("RGB", (40, 40), "teal").convert(mode)
    )
    image.save(path)
    assert run(path, model, tmp_path / "out.png") == 0


def test_an_exif_rotated_photograph_comes_out_upright(photo, model, tmp_path):
    rotated = tmp_path / "rotated.jpg"
    with Image.open(photo) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(rotated, exif=exif)
    assert run(rotated, model, tmp_path / "out.png") == 0
    with Image.open(tmp_path / "out.png") as image:
        assert image.width < image.height


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"focus": "0.3"}, "--focus"),
        ({"focus": "1.3,0.5"}, "--focus"),
        ({"bokeh": "-1"}, "--bokeh"),
        ({"bokeh": "nan"}, "--bokeh"),
        ({"bokeh": "much"}, "--bokeh"),
    ],
)
def test_a_camera_that_cannot_be_is_one_sentence(photo, model, tmp_path, capsys, words, named):
    assert run(photo, model, tmp_path / "out.png", **words) == 2
    message = capsys.readouterr().err.strip()
    assert named in message
    assert "\n" not in message
    assert not (tmp_path / "out.png").exists()


def broken(model, folder, name, content):
    """A copy of an export in which one file has another content, or none."""
    shutil.copytree(model / "export", folder / "export")
    if content is None:
        (folder / "export" / name).unlink()
    else:
        (folder / "export" / name).write_bytes(content)
    return folder


LORA = "pytorch_lora_weights.safetensors"
CAMERA = "camera_embedder/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (LORA, None),
        (LORA, b"\x40\0\0\0\0\0\0\0{"),
        (CAMERA, None),
        (CAMERA, b"\x40\0\0\0\0\0\0\0{"),
        ("camera_embedder/config.json", None),
        ("refocus.json", b"{"),
        ("refocus.json", b"[]"),
        ("refocus.json", b'{"backbone": {}}'),
    ],
)
def test_a_broken_export_is_one_sentence_that_names_the_part(
    photo, model, tmp_path, capsys, name, content
):
    assert run(photo, broken(model, tmp_path, name, content), tmp_path / "out.png") == 2
    message = capsys.readouterr().err.strip()
    assert str(tmp_path / "export") in message
    assert name.split("/")[0] in message
    assert "\n" not in message


def test_settings_that_describe_no_backbone_are_one_sentence(photo, model, tmp_path, capsys):
    settings = json.loads((model / "export" / "refocus.json").read_text())
    settings["backbone"]["arguments"] = {"fields": 3}
    content = json.dumps(settings).encode()
    assert run(photo, broken(model, tmp_path, "refocus.json", content), tmp_path / "out.png") == 2
    message = capsys.readouterr().err.strip()
    assert "refocus.json" in message
    assert "\n" not in message


def test_an_adapter_of_another_base_is_one_sentence(photo, model, tmp_path, capsys):
    settings = json.loads((model / "export" / "refocus.json").read_text())
    settings["backbone"]["arguments"]["heads"] = 3
    content = json.dumps(settings).encode()
    assert run(photo, broken(model, tmp_path, "refocus.json", content), tmp_path / "out.png") == 2
    message = capsys.readouterr().err.strip()
    assert LORA in message
    assert "\n" not in message


def images_of_any_mode():
    """Pictures in Pillow's modes, a rotated one among them, with the suffix of a format that keeps
    them.
    """
    pixels = np.random.default_rng(0).integers(0, 255, (24, 40, 4), dtype=np.uint8)
    color = Image.fromarray(pixels[..., :3])
    rotated, exif = color.copy(), color.getexif()
    exif[0x0112] = 6
    rotated.info["exif"] = exif.tobytes()
    ramp = np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)
    plain = [
        color,
        color.convert("L"),
        color.convert("1"),
        color.convert("P"),
        Image.fromarray(pixels),
    ]
    return [
        *((image, ".png") for image in plain),
        (rotated, ".png"),
        (Image.fromarray(ramp), ".png"),
    ]


@pytest.mark.parametrize(
    ("image", "suffix"), images_of_any_mode(), ids=lambda it: getattr(it, "mode", it)
)
def test_a_pil_image_is_what_its_file_is_read_as(image, suffix, tmp_path):
    path = tmp_path / f"photo{suffix}"
    image.save(path, **{name: value for name, value in image.info.items() if name == "exif"})
    with Image.open(path) as opened:
        assert np.array_equal(image_values(opened), decode_image(path.read_bytes(), path.name))


def test_a_rotated_photograph_has_one_shape_from_python_and_from_the_command_line(
    photo, model, tmp_path
):
    with Image.open(photo) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / "rotated.jpg", exif=exif)
    with Image.open(tmp_path / "rotated.jpg") as image:
        assert RefocusPipeline.from_export(model)(image, (0.5, 0.5), 3.0).images[0].size == (
            28,
            40,
        )


def test_a_16_bit_ramp_keeps_its_mean(model):
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    pixels = RefocusPipeline.from_export(model).prepare_image(Image.fromarray(ramp))
    assert pixels.mean().item() == pytest.approx(0.5, abs=1e-3)


def test_a_sweep_of_points_and_levels_is_a_file_each_and_an_animation(photo, model, tmp_path):
    words = [str(photo), "--model", str(model), "-o", str(tmp_path / "sweep")]
    words += ["--focus", "0.2,0.5", "0.8,0.5", "--bokeh", "2", "9", "--animate", "gif"]
    assert main(words) == 0
    names = [
        f"photo_focus{point}_bokeh{level}.jpg"
        for point in ("0.2,0.5", "0.8,0.5")
        for level in (2, 9)
    ]
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir()) == ["photo.gif", *names]
    # One of the sweep is what it is alone: same noise, whatever is made with it
    assert run(photo, model, tmp_path / "one.jpg", focus="0.8,0.5", bokeh="2") == 0
    assert (tmp_path / "one.jpg").read_bytes() == (tmp_path / "sweep" / names[2]).read_bytes()


def test_nothing_is_overwritten_and_an_input_never(photo, model, tmp_path, capsys):
    before = photo.read_bytes()
    for more in ([], ["--overwrite"]):
        assert run(photo, model, photo, *more) == 2
        assert "it is an input" in capsys.readouterr().err
    out = tmp_path / "out.jpg"
    out.write_bytes(b"mine")
    assert run(photo, model, out) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    assert run(photo, model, out, "--overwrite") == 0
    assert photo.read_bytes() == before


def test_of_many_photographs_a_bad_one_is_reported_and_the_others_are_done(
    photo, model, tmp_path, capsys
):
    (tmp_path / "bad.jpg").write_text("no image")
    words = [str(tmp_path / "bad.jpg"), str(photo), "--focus", "0.5,0.5", "--bokeh", "3"]
    assert main([*words, "--model", str(model), "-o", str(tmp_path / "made")]) == 2
    error = capsys.readouterr().err
    assert "bad.jpg" in error
    assert "1 of 2 photographs" in error
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["photo_bokeh3.jpg"]


def test_full_size_is_the_photograph_s_size_and_keeps_its_metadata(photo, model, tmp_path, capsys):
    with Image.open(photo) as image:
        exif = image.getexif()
        exif[0x010F] = "A camera"
        image.save(tmp_path / "exif.jpg", exif=exif, quality=95)
    words = [tmp_path / "exif.jpg", model, tmp_path / "full.jpg", "--full-size"]
    assert run(*words) == 2
    assert "--depth" in capsys.readouterr().err
    assert run(*words, "--depth", "plane") == 0
    with Image.open(tmp_path / "full.jpg") as image:
        assert image.size == (90, 60)
        assert image.getexif()[0x010F] == "A camera"


def test_exif_that_a_16_bit_tiff_cannot_hold_is_said(model, tmp_path, capsys):
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    write_photo(Photo(torch.rand(3, 30, 40), bits=16, exif=exif.tobytes()), tmp_path / "deep.png")
    words = ["--full-size", "--depth", "plane"]
    assert run(tmp_path / "deep.png", model, tmp_path / "full.tif", *words) == 0
    assert "full.tif has no EXIF" in capsys.readouterr().err


def test_another_base_and_offloading_are_refused_where_they_cannot_be(
    photo, model, tmp_path, capsys
):
    for words, said in (
        (["--base", "elsewhere"], "--base: the base of"),
        (["--offload"], "--offload: there is no GPU"),
        (["--offload-blocks"], "--offload-blocks: there is no GPU"),
        (["--offload-blocks", "--offload"], "--offload-blocks: it does not go with --offload;"),
        (["--offload-blocks", "--quantize", "nf4"], "it does not go with --quantize nf4; leave"),
        (["--batch-size", "0"], "--batch-size"),
    ):
        assert run(photo, model, tmp_path / "out.png", *words) == 2
        message = capsys.readouterr().err.strip()
        assert said in message
        assert "\n" not in message


def test_a_quantized_base_makes_nearly_the_same_picture(photo, model, tmp_path):
    pytest.importorskip("torchao")
    names = (tmp_path / "exact.png", tmp_path / "int8.png")
    for name, more in zip(names, ([], ["--quantize", "int8"]), strict=True):
        assert run(photo, model, name, *more) == 0
    exact, quantized = (image_values(Image.open(name)) for name in names)
    assert 0 < np.abs(exact - quantized).max() <= 3 / 255


def test_a_quantizer_that_is_not_installed_is_named(photo, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(photo, model, tmp_path / "out.png", "--quantize", "int8") == 2
    assert "--quantize: int8 needs torchao: pip install 'dofsuite[quantize]'." in (
        capsys.readouterr().err
    )


def test_wrong_files_are_named(photo, model, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    np.save(tmp_path / "nan.npy", np.full((60, 90), np.nan, dtype=np.float32))
    np.save(tmp_path / "square.npy", np.ones((6, 6), dtype=np.float32))
    disparity = ["--depth-kind", "disparity"]
    cases = [
        ([tmp_path / "none.png", model, tmp_path / "o.png"], "none.png"),
        ([tmp_path / "text.png", model, tmp_path / "o.png"], "text.png"),
        ([tmp_path / "dot.png", model, tmp_path / "o.png"], "dot.png"),
        ([photo, tmp_path, tmp_path / "o.png"], "--model"),
        ([photo, model, tmp_path / "o.gif"], "o.gif"),
        (
            [photo, model, tmp_path / "o.png", "--depth", str(tmp_path / "nan.npy"), *disparity],
            "nan.npy",
        ),
        (
            [photo, model, tmp_path / "o.png", "--depth", str(tmp_path / "square.npy"), *disparity],
            "square.npy",
        ),
        (
            [photo, model, tmp_path / "o.png", "--depth", str(tmp_path / "square.npy")],
            "--depth-kind",
        ),
        ([photo, model, tmp_path / "o.png", "--steps", "0"], "--steps"),
        ([photo, model, tmp_path / "o.png", "--seed", "9" * 23], "--seed"),
        ([photo, model, tmp_path / "o.png", "--seed", "-1"], "--seed"),
    ]
    for words, named in cases:
        assert run(*words) == 2
        message = capsys.readouterr().err.strip()
        assert named in message
        assert "\n" not in message
    assert not (tmp_path / "o.png").exists()
