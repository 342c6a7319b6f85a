"""DiffCamera's own numbers (arXiv 2509.26599, Tables 1 to 6), for the rows beside ours.

They are of the paper's 150 scenes, which are not public: another benchmark has another ground
truth, whose own scores say how far numbers can be compared.
"""

Row = tuple[str, dict[str, float | None]]

# Table 1, refocus.
REFOCUS: list[Row] = [
    ("GPT-4o (paper, 5 % of samples)", {"CLIP-I": 0.859, "MAE": 0.138, "CLIP-IQA": 0.724}),
    ("DiffCamera (paper)", {"CLIP-I": 0.954, "MAE": 0.025, "CLIP-IQA": 0.834}),
]

# Table 1, add bokeh; the truth's LVCorr is of Table 3.
BOKEH: list[Row] = [
    ("GPT-4o (paper, 5 % of samples)", {"CLIP-I": 0.792, "MAE": 0.087, "CLIP-IQA": 0.567}),
    (
        "DiffCamera (paper)",
        {"CLIP-I": 0.969, "MAE": 0.022, "LVCorr": 0.920, "truth's LVCorr": 0.93, "CLIP-IQA": 0.857},
    ),
]

# Table 2.
DEBLUR: list[Row] = [
    (
        "GPT-4o (paper, 5 % of samples)",
        {"CLIP-I": 0.939, "MAE": 0.149, "LPIPS": 0.583, "PSNR": 13.736, "CLIP-IQA": 0.611},
    ),
    (
        "Restormer (paper)",
        {"CLIP-I": 0.971, "MAE": 0.044, "LPIPS": 0.674, "PSNR": 24.120, "CLIP-IQA": 0.857},
    ),
    (
        "DiffCamera (paper)",
        {"CLIP-I": 0.970, "MAE": 0.037, "LPIPS": 0.176, "PSNR": 25.200, "CLIP-IQA": 0.883},
    ),
]

# Columns of Tables 3 to 6.
ABLATION_COLUMNS = (
    "all CLIP-I",
    "all MAE",
    "all CLIP-IQA",
    "bokeh LVCorr",
    "deblur MAE",
    "deblur LPIPS",
    "deblur PSNR",
)

_ABLATIONS: list[tuple[str, tuple[float, ...]]] = [
    ("ground truth (paper)", (0.970, 0.000, 0.867, 0.93, 0.000, 0.000, float("inf"))),
    ("only photo (paper, Table 3)", (0.953, 0.034, 0.842, 0.781, 0.042, 0.220, 24.283)),
    ("only AI-synthesized (paper, Table 3)", (0.961, 0.032, 0.861, 0.856, 0.043, 0.219, 23.891)),
    (
        "without adaptive balancing (paper, Table 3)",
        (0.961, 0.035, 0.852, 0.824, 0.042, 0.211, 24.105),
    ),
    ("without depth (paper, Table 4)", (0.965, 0.033, 0.850, 0.852, 0.041, 0.205, 24.351)),
    ("without depth dropout (paper, Table 4)", (0.960, 0.030, 0.854, 0.868, 0.042, 0.220, 24.167)),
    (
        "without stacking constraint (paper, Table 5)",
        (0.962, 0.030, 0.861, 0.858, 0.041, 0.200, 24.350),
    ),
    ("full (paper)", (0.966, 0.029, 0.863, 0.920, 0.037, 0.176, 25.200)),
    ("full, zero depth (paper, Table 6)", (0.966, 0.032, 0.854, 0.878, 0.037, 0.176, 25.219)),
    ("full, depth masked (paper, Table 6)", (0.965, 0.029, 0.852, 0.916, 0.037, 0.177, 25.191)),
    ("full, depth cropped (paper, Table 6)", (0.966, 0.029, 0.856, 0.920, 0.037, 0.176, 25.197)),
    ("full, depth with noise (paper, Table 6)", (0.965, 0.033, 0.835, 0.901, 0.039, 0.180, 24.946)),
]

# Tables 3 to 6.
ABLATIONS: list[Row] = [
    (name, dict(zip(ABLATION_COLUMNS, values, strict=True))) for name, values in _ABLATIONS
]
