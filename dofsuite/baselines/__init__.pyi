from dofsuite.baselines.camera_tokens.module import CameraSettings as CameraSettings
from dofsuite.baselines.camera_tokens.module import CameraTokens as CameraTokens
from dofsuite.baselines.deconvolution import Deconvolution as Deconvolution
