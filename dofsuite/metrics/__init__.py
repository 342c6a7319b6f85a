"""Metrics of depth-of-field control, as functions and as torchmetrics classes.

They need torch, torchmetrics and dofsuite.optics only. Convention: a sweep is
[batch, settings, 3, h, w], one image of each scene for each setting, display values in [0, 1].
Modules are not named like the functions in them: `from dofsuite.metrics import lv_corr` must never
find a module.
"""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
