"""Metric3Dv2 (arXiv 2404.15506), the paper's depth model, through torch.hub."""

from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from dofsuite.backbones.hub import first_of_node, reason_of
from dofsuite.backbones.perception.depth import NEAREST_M, Depth
from dofsuite.backbones.perception.frozen import Frozen, normalize
from dofsuite.errors import UserError

REPOSITORY = "yvanyin/metric3d"
# The newest commit of its main branch (2025-03-13).
COMMIT = "eb5b6fac0dc155e4e52f576e304fbf11655ff339"
# Input height and width of the ViT models; images are fitted and padded (*stated* there).
INPUT_PX = (616, 1064)
# Focal length of the canonical camera, in which the network predicts (*stated* there).
CANONICAL_FOCAL_PX = 1000.0


class Metric3DDepth(Frozen):
    """The network between fitting an image into its input and transforming its depth back."""

    def __init__(
        self, network: nn.Module, focal_length_mm: float | None, sensor_width_mm: float
    ) -> None:
        """Freeze a network: {"input": [b, 3, 616, 1064]} to (depth [b, 1, 616, 1064], ...)."""
        super().__init__(network)
        self.focal_length_mm, self.sensor_width_mm = focal_length_mm, sensor_width_mm

    def forward(self, image: Tensor) -> Tensor:
        """Predict float32 depth [b, 1, h, w] for display values [b, 3, h, w]."""
        # Fit into the input and pad around it with zeros, the mean color, as the project does.
        height, width = image.shape[-2:]
        scale = min(INPUT_PX[0] / height, INPUT_PX[1] / width)
        size = (int(height * scale), int(width * scale))
        pixels = normalize(interpolate(image, size, mode="bilinear", antialias=scale < 1))
        top, left = (INPUT_PX[0] - size[0]) // 2, (INPUT_PX[1] - size[1]) // 2
        right, bottom = INPUT_PX[1] - size[1] - left, INPUT_PX[0] - size[0] - top
        pixels = pad(pixels, (left, right, top, bottom))
        # Predict; the network's own `inference` is this call without gradients.
        self._set_depth_anchors(len(image), image.device)
        canonical = self.network({"input": pixels.to(self.dtype)})[0].float()
        # Remove the padding.
        canonical = canonical[..., top : top + size[0], left : left + size[1]]
        depth = interpolate(canonical, (height, width), mode="bilinear")
        # The focal length, in px at the fitted width, over the canonical camera's.
        to_meters = 1.0
        if self.focal_length_mm is not None:
            to_meters = self.focal_length_mm / self.sensor_width_mm * size[1] / CANONICAL_FOCAL_PX
        return (depth * to_meters).clamp(min=NEAREST_M)

    # Set the decoder's depth anchors; it creates them on "cuda" for one batch size only.
    def _set_depth_anchors(self, batch: int, device: torch.device) -> None:
        for part in self.network.modules():
            if not hasattr(part, "register_depth_expectation_anchor"):
                continue
            anchors = getattr(part, "depth_expectation_anchor", None)
            if anchors is None or len(anchors) < batch or anchors.device != device:
                low, high = (
                    torch.tensor(float(bound)).log() for bound in (part.min_val, part.max_val)
                )
                steps = torch.linspace(
                    low, high, part.num_depth_regressor_anchor, device=device
                ).exp()
                part.register_buffer(
                    "depth_expectation_anchor", steps.repeat(batch, 1), persistent=False
                )


class Metric3D(Depth):
    """Metric3Dv2 with a ViT encoder (BSD-2-Clause): the paper's frozen depth model.

    *Stated*, but for its size. Its code is fetched by torch.hub at a commit and fetches the weights
    itself, as a pickle: the user has to trust it. It needs mmcv, mmengine, timm and torchvision:
    `dofsuite[metric3d]`. It predicts depth for a camera with
    a focal length of 1000 px; a real camera's depth is that times its own focal length in px over
    1000 (canonical camera transformation, sec. 3.1 there).
    """

    packages = MappingProxyType(
        {
            "torchvision": "torchvision",
            "timm": "timm",
            "mmengine": "mmengine",
            "mmcv": "mmcv-lite",
        }
    )
    extra = "metric3d"

    def __init__(
        self,
        encoder: Literal["vit_small", "vit_large", "vit_giant2"] = "vit_large",
        focal_length_mm: float | None = None,
        sensor_width_mm: float = 36.0,
        revision: str = COMMIT,
        dtype: Literal["bfloat16", "float32"] = "float32",
        trust_remote_code: bool = False,
    ) -> None:
        """Name the weights.

        Args:
            encoder: Size of the encoder (*ours*: large).
            focal_length_mm: Of the camera, for depth in meters; null leaves the canonical camera's
                depth, whose scale the focus predictor then learns (*inferred*: a generated image
                has no camera).
            sensor_width_mm: Of that camera.
            revision: Commit of the repository, whose code is run here.
            dtype: Of the frozen weights.
            trust_remote_code: Run that code (*ours*: not unless said).
        """
        self.encoder, self.revision = encoder, revision
        self.dtype, self.trust_remote_code = dtype, trust_remote_code
        self.focal_length_mm, self.sensor_width_mm = focal_length_mm, sensor_width_mm

    def code_place(self) -> tuple[str, str | None]:
        return REPOSITORY, self.revision

    def load(self) -> Metric3DDepth:
        """Load code and weights.

        Raises:
            UserError: The code is not trusted, they cannot be downloaded, or a package that they
                need is missing.
        """
        self.check_trusted()
        source = f"{REPOSITORY}:{self.revision}"
        try:
            # The processes of a node one after another: they would unpack into the same folder.
            with first_of_node(source):
                network = torch.hub.load(
                    source,
                    f"metric3d_{self.encoder}",
                    pretrain=True,
                    trust_repo=True,
                    skip_validation=True,
                )
        except Exception as error:
            raise UserError(f"{source}: {self.encoder}: {reason_of(source, error)}") from error
        network = network.to(getattr(torch, self.dtype))
        return Metric3DDepth(network, self.focal_length_mm, self.sensor_width_mm)
