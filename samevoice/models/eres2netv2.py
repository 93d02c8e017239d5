"""ERes2NetV2 (Chen et al., ERes2NetV2: Boosting Short-Duration Speaker Verification Performance, Interspeech 2024)."""

from collections.abc import Sequence

from torch import Tensor

from samevoice.models.eres2net import AttentionalFeatureFusion, ERes2Net
from samevoice.models.resnet import conv3x3


class ERes2NetV2(ERes2Net):
    """ERes2Net with wider stages, narrower blocks, and global fusion of the last two stages only.

    (batch, frames, mels) -> (batch, embedding_dim)

    The defaults (17,859,632 parameters) and base_width=24, scale=4, expansion=4 are the published configurations.

    >>> import torch
    >>> ERes2NetV2(channels=16).eval()(torch.randn(2, 200, 80)).shape
    torch.Size([2, 192])
    """

    def __init__(
        self,
        mels: int = 80,
        channels: int = 64,
        embedding_dim: int = 192,
        blocks: Sequence[int] = (3, 4, 6, 3),
        base_width: int = 26,
        scale: int = 2,
        expansion: int = 2,
        pooling_eps: float = 1e-8,
    ):
        super().__init__(
            mels,
            channels,
            embedding_dim,
            blocks,
            base_width,
            scale,
            expansion,
            global_fusion=False,
            pooling_eps=pooling_eps,
        )
        width = channels * expansion
        self.layer3_ds = conv3x3(4 * width, 8 * width, stride=2)
        self.fuse34 = AttentionalFeatureFusion(8 * width)

    def feature_map(self, x: Tensor) -> Tensor:
        s3 = self.layer3(self.layer2(self.layer1(self.input_layer(x))))
        return self.fuse34(self.layer4(s3), self.layer3_ds(s3))
