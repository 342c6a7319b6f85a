from dofsuite.photography.full_size import render_full_size as render_full_size
from dofsuite.photography.photo import Photo as Photo
from dofsuite.photography.photo_encoding import write_photo as write_photo
from dofsuite.photography.photo_file import read_photo as read_photo
from dofsuite.photography.scene_depth import DepthEstimator as DepthEstimator
from dofsuite.photography.scene_depth import SceneDepth as SceneDepth
from dofsuite.photography.scene_depth import plane_depth as plane_depth
from dofsuite.photography.scene_depth import read_depth as read_depth
