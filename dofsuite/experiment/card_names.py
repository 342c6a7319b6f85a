"""Names of GPUs that an experiment file may say it is made for."""

from typing import Literal

CardName = Literal["A100-40", "A100", "H100", "H200"]
