from dofsuite.baselines.camera_tokens.module import CameraTokensModule as CameraTokensModule
from dofsuite.baselines.camera_tokens.tokens import CameraTokens as CameraTokens
from dofsuite.baselines.deconvolution import Deconvolution as Deconvolution
