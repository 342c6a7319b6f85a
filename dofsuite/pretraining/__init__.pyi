from dofsuite.pretraining.blur_classifier import BlurClassifier as BlurClassifier
from dofsuite.pretraining.deblurrer import Deblurring as Deblurring
from dofsuite.pretraining.refocus_base import RefocusPretraining as RefocusPretraining
from dofsuite.pretraining.scene_pool import ScenePool as ScenePool
from dofsuite.pretraining.surrogates import DepthSurrogate as DepthSurrogate
from dofsuite.pretraining.surrogates import SaliencySurrogate as SaliencySurrogate
