from dofsuite.refocus.camera_embedder import CameraEmbedder as CameraEmbedder
from dofsuite.refocus.cameras import CameraSampling as CameraSampling
from dofsuite.refocus.losses import Stacking as Stacking
from dofsuite.refocus.module import Refocus as Refocus
from dofsuite.refocus.pipeline import RefocusPipeline as RefocusPipeline
from dofsuite.refocus.probe import Probe as Probe
from dofsuite.refocus.rendering import Rendering as Rendering
