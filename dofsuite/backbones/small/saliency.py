"""A small saliency network."""

from dofsuite.backbones.perception.frozen import DensePrediction
from dofsuite.backbones.perception.saliency import Saliency
from dofsuite.backbones.small.depth import SmallDense


class SmallSaliency(SmallDense, Saliency):
    """The architecture of `SmallDepth` with an output between 0 and 1, for images of 64 px."""

    def load(self) -> DensePrediction:
        return self.build("saliency", largest=1, smallest=0.0)
