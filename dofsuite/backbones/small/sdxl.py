"""A small network of SDXL's class over an exactly invertible codec, for training on a laptop."""

from pathlib import Path

from diffusers import UNet2DConditionModel

from dofsuite.backbones.codec import SpaceToDepthCodec
from dofsuite.backbones.hub import exported_part
from dofsuite.backbones.sdxl.prediction_type import Prediction, read_prediction
from dofsuite.backbones.sdxl.sdxl import NUM_TIME_IDS, Sdxl, SdxlModules
from dofsuite.backbones.small.build import saved_folder, seeded
from dofsuite.backbones.small.word_encoder import WordEncoder

SAVED_FILES = ("unet/config.json", "codec/config.json", "scheduler/scheduler_config.json")


class SmallSdxl(Sdxl):
    """An SDXL-shaped network that a laptop trains, with an invertible codec and a word encoder.

    With the default values it has 3.4 M weights; images of 64 px are latents of 48 x 16 x 16.
    """

    def __init__(
        self,
        weights: str | None = None,
        channels: tuple[int, ...] = (64, 64, 96),
        layers_per_block: int = 1,
        transformer_layers: int = 1,
        num_tokens: int = 32,
        token_dim: int = 64,
        pooled_dim: int = 64,
        time_id_dim: int = 16,
        downscale: int = 4,
        whitening: float = 0.6,
        prediction: Prediction = "v_prediction",
        seed: int = 0,
    ) -> None:
        """Describe the network.

        Args:
            weights: A folder that a run exported (`unet/`, `codec/`, `scheduler/`), or `packaged`,
                the teacher that comes with dofsuite; null is a new network of the values below.
            channels: Width of every level, each half the size of the one before; the first without
                attention, as in SDXL. Multiples of 32. The first must be at least
                3 x downscale^2: a narrower first level cannot represent the identity on the latent,
                which noise prediction needs.
            layers_per_block: Residual blocks of a level.
            transformer_layers: Attention layers after each of them.
            num_tokens: Prompt length in words; longer prompts are truncated.
            token_dim: Embedding width of a word.
            pooled_dim: Width of the pooled prompt embedding.
            time_id_dim: Embedding width of each of the six numbers of SDXL's size conditioning.
            downscale: Pixels per latent.
            whitening: How far the codec flattens the spectrum of photographs (0 not at all, 1
                fully; *ours*).
            prediction: Prediction type of a new network. Paper: SDXL predicts noise. Here: v,
                because at t = 999, where sampling starts, an error of the predicted noise is an
                error 15 times as large of the image (*ours*: a teacher of 600 steps makes
                recognisable things, and with noise one of 2400 did not).
            seed: Of a new network's weights.
        """
        if channels[0] < 3 * downscale**2:
            raise ValueError(
                f"channels: the first is {channels[0]}; with downscale {downscale} it must be at "
                f"least {3 * downscale**2}, or noise cannot pass through"
            )
        self.weights, self.seed = weights, seed
        self.channels, self.layers_per_block = tuple(channels), layers_per_block
        self.transformer_layers, self.time_id_dim = transformer_layers, time_id_dim
        self.num_tokens, self.token_dim = num_tokens, token_dim
        self.pooled_dim, self.prediction = pooled_dim, prediction
        self.downscale, self.whitening = downscale, whitening

    @property
    def folder(self) -> Path | None:
        """The folder of `weights`.

        Raises:
            UserError: It holds no saved network.
        """
        return None if self.weights is None else saved_folder(self.weights, "sdxl", *SAVED_FILES)

    def load(self) -> SdxlModules:
        """Build the network, or read it from a folder.

        Raises:
            UserError: `weights` names a folder without a saved network, or it cannot be read.
        """
        folder = self.folder
        if folder is None:
            codec, prediction = SpaceToDepthCodec(self.downscale, self.whitening), self.prediction
            # SDXL's block types for any number of levels: no attention at full resolution.
            attending = len(self.channels) - 1
            with seeded(self.seed):
                unet = UNet2DConditionModel(
                    in_channels=codec.latent_channels,
                    out_channels=codec.latent_channels,
                    down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * attending),
                    up_block_types=(*["CrossAttnUpBlock2D"] * attending, "UpBlock2D"),
                    block_out_channels=self.channels,
                    attention_head_dim=tuple(width // 32 for width in self.channels),
                    layers_per_block=self.layers_per_block,
                    transformer_layers_per_block=self.transformer_layers,
                    cross_attention_dim=self.token_dim,
                    use_linear_projection=True,
                    norm_num_groups=16,
                    addition_embed_type="text_time",
                    addition_time_embed_dim=self.time_id_dim,
                    projection_class_embeddings_input_dim=(
                        self.pooled_dim + NUM_TIME_IDS * self.time_id_dim
                    ),
                )
        else:
            unet = exported_part(UNet2DConditionModel, folder, "unet")
            codec = exported_part(SpaceToDepthCodec, folder, "codec")
            prediction = read_prediction(str(folder))
        # The added embedding is the pooled prompt followed by the embedded size conditioning.
        config = unet.config
        size_dim = NUM_TIME_IDS * config.addition_time_embed_dim
        pooled_dim = config.projection_class_embeddings_input_dim - size_dim
        prompts = WordEncoder(self.num_tokens, config.cross_attention_dim, pooled_dim)
        return SdxlModules(unet.eval().requires_grad_(False), codec, prompts, prediction)
