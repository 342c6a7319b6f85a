"""Pretrained and small networks.

With the pipelines, the only importers of diffusers, transformers and peft.
"""

import logging

from dofsuite._lazy import lazy_exports

# Where the extra `quantize` is installed, diffusers imports its packages whenever it is imported,
# and they tell of parts that are not used here. (The pipelines' rooms import this one first.)
for _name in (
    "torchao",
    "bitsandbytes",
    "torch.utils._pytree",
    "diffusers.quantizers.torchao.torchao_quantizer",
):
    logging.getLogger(_name).setLevel(logging.ERROR)

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
