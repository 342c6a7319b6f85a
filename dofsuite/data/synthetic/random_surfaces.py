"""Surfaces of the random scenes: crops of photographs and procedural textures, of any size.

Display values in [0, 1], `[size, size, 3]` float32.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dofsuite.data.synthetic.photographs import photograph

# Coffee, Chelsea and the motorcycle are held out.
COLOR_PHOTOGRAPHS = ("astronaut", "rocket", "hubble")
GRAY_PHOTOGRAPHS = ("camera", "coins", "brick", "grass", "gravel")
# Color photographs are taken this often.
COLOR_SHARE = 0.5
# Crops are reduced by up to this, so that most are sharp at their pixels.
LARGEST_REDUCTION = 3.0
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789&%?!.,"


def photograph_crop(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Return a crop of a photograph, reduced 1 to 3 times as far as it is large enough.

    It is mirrored, turned and recolored at random; gray photographs are tinted.
    """
    # A box of the photograph
    is_gray = rng.random() >= COLOR_SHARE
    pool = GRAY_PHOTOGRAPHS if is_gray else COLOR_PHOTOGRAPHS
    source = photograph(pool[rng.integers(len(pool))])
    largest = min(source.width, source.height) / size_px
    reduction = min(rng.uniform(1.0, LARGEST_REDUCTION), largest)
    side = int(size_px * reduction)
    left = int(rng.integers(source.width - side + 1))
    top = int(rng.integers(source.height - side + 1))
    box = (left, top, left + side, top + side)
    crop = source.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)

    # Its orientation and colors, by a table of the 256 values
    spread = 0.5 if is_gray else 0.15
    gain = 1 - spread * rng.random(3, dtype=np.float32)
    table = np.linspace(0, 1, 256, dtype=np.float32) ** np.float32(rng.uniform(0.8, 1.3))
    return table[_turned(rng, np.asarray(crop))] * gain


def photograph_colors(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw colors `[count, 3]` from the pixels of the color photographs.

    Half of them are spread to the whole range of brightness, which few pixels of these have.
    """
    palette = _palette()
    colors = palette[rng.integers(len(palette), size=count)]
    brightest = colors.max(axis=1, keepdims=True) + 0.02
    spread = colors / brightest * rng.random((count, 1), dtype=np.float32)
    return np.where(rng.random((count, 1)) < 0.5, spread, colors)


def texture(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Return a procedural texture in two colors drawn from the photographs."""
    draw = TEXTURES[rng.integers(len(TEXTURES))]
    mix = draw(rng, size_px)[..., None]
    low, high = photograph_colors(rng, 2)
    # Two dark colors would show nothing
    low, high = low * rng.random(dtype=np.float32), 1 - (1 - high) * rng.random(dtype=np.float32)
    return low + (high - low) * mix.astype(np.float32)


def shading(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Return smooth light between 0.5 and 1: bilinear between 3 x 3 random values."""
    coarse = Image.fromarray(rng.uniform(0.5, 1, size=(3, 3)).astype(np.float32))
    smooth = coarse.resize((size_px, size_px), Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(smooth)[..., None], 3, axis=2)


@cache
def _palette() -> np.ndarray:
    pixels = [np.asarray(photograph(name))[::4, ::4].reshape(-1, 3) for name in COLOR_PHOTOGRAPHS]
    return np.concatenate(pixels).astype(np.float32) / 255


def _turned(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    return np.rot90(values[:, ::-1] if rng.random() < 0.5 else values, int(rng.integers(4)))


# --- textures: [size, size] in [0, 1] -----------------------------------------------------------


def noise(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Return noise with the spectrum 1 / f^a, a from 0.6 (rough) to 1.8 (clouds)."""
    frequency = np.hypot(np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None, :])
    frequency[0, 0] = 1
    white = rng.standard_normal((size_px, size_px), dtype=np.float32)
    spectrum = np.fft.rfft2(white) / frequency ** rng.uniform(0.6, 1.8)
    values = np.fft.irfft2(spectrum, s=(size_px, size_px))
    return np.clip(0.5 + 0.22 * (values - values.mean()) / values.std(), 0, 1)


def stripes(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Return stripes of a period of 2.5 to 30 px at any angle, from sines to hard edges."""
    across = _phase(rng, size_px, rng.uniform(0, np.pi))
    return np.clip(0.5 + rng.uniform(0.4, 4) * np.sin(across), 0, 1)


def checks(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Return a checkered pattern at any angle."""
    angle = rng.uniform(0, np.pi)
    product = np.sin(_phase(rng, size_px, angle)) * np.sin(_phase(rng, size_px, angle + np.pi / 2))
    return np.clip(0.5 + rng.uniform(1, 6) * product, 0, 1)


def letters(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Return lines of letters 7 to 30 px high."""
    page = Image.new("L", (size_px, size_px))
    draw = ImageDraw.Draw(page)
    height = int(rng.uniform(7, 30))
    font = ImageFont.load_default(height)
    for top in range(0, size_px, round(height * 1.15)):
        indices = rng.integers(len(LETTERS), size=2 * size_px // height + 1)
        line = "".join(LETTERS[i] for i in indices)
        draw.text((-int(rng.integers(height)), top), line, fill=255, font=font)
    return np.asarray(page, dtype=np.float32) / 255


def points(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Return points of light: 1 to 2 % of the pixels, of every brightness."""
    values = rng.random((size_px, size_px), dtype=np.float32)
    share = rng.uniform(0.002, 0.02)
    return np.clip((values - (1 - share)) / share, 0, 1) ** 0.5


# Phase of a wave [size, size] along an angle.
def _phase(rng: np.random.Generator, size_px: int, angle: float) -> np.ndarray:
    steps = np.arange(size_px, dtype=np.float32)
    frequency = 2 * np.pi / (2.5 * 12 ** rng.random())
    along = steps[None, :] * np.float32(np.cos(angle)) + steps[:, None] * np.float32(np.sin(angle))
    return along * np.float32(frequency) + np.float32(rng.uniform(0, 2 * np.pi))


TEXTURES: tuple[Callable[[np.random.Generator, int], np.ndarray], ...] = (
    noise,
    stripes,
    checks,
    letters,
    points,
)
