"""ERes2Net: Res2Net with local and global attentional feature fusion (Chen et al., Interspeech 2023)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from samevoice.models.res2net import Res2Net, Res2NetBlock
from samevoice.models.resnet import conv3x3


class AttentionalFeatureFusion(nn.Module):
    """AFF: a learned, signed preference between two feature maps at every point (eq. 2 and 3, Figure 2c).

    x, y, each (batch, channels, mels, frames) -> (1 + U) x + (1 - U) y, of the same shape, with U in (-1, 1).
    The paper's reduction r is 4.
    """

    def __init__(self, channels: int, reduction: int = 4):
        super().__init__()
        self.local_att = nn.Sequential(
            nn.Conv2d(2 * channels, channels // reduction, 1),
            nn.BatchNorm2d(channels // reduction),
            nn.SiLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        preference = torch.tanh(self.local_att(torch.cat([x, y], 1)))
        return x * (1 + preference) + y * (1 - preference)


class AddingBlock(Res2NetBlock):
    """A Res2Net block that convolves every group, the last one too; groups still join by addition."""

    convolved = 0


class FusingBlock(AddingBlock):
    """The ERes2Net block (eq. 2): every group is convolved, and groups join by AFF."""

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, base_width: int = 32, scale: int = 2, expansion: int = 2
    ):
        super().__init__(inputs, outputs, stride, base_width, scale, expansion)
        width = outputs * base_width // (64 * expansion)
        self.fuse_models = nn.ModuleList(AttentionalFeatureFusion(width) for _ in range(scale - 1))

    def join(self, i: int, before: Tensor, group: Tensor) -> Tensor:
        return self.fuse_models[i - 1](before, group)


class ERes2Net(Res2Net):
    """Res2Net with local fusion (inside blocks) and global fusion (across stages), each of which can be left out.

    (batch, frames, mels) -> (batch, embedding_dim)

    The four rows of the paper's Table 3 are the four settings of the two switches. Where the paper is silent we follow
    the public code for the full network and keep the ablations consistent with it:
      - local_fusion: FusingBlock in stages 3 and 4, AddingBlock in stages 1 and 2 (the public code has no AFF there);
        without it, the baseline's Res2NetBlock everywhere;
      - global_fusion: the stage outputs are fused from the bottom up (eq. 4) and the last fused map is pooled;
        without it, the output of stage 4 is pooled, as in the baseline.
    So with neither this is exactly `Res2Net`, and pooling and embedding layer are the same in all four.

    The defaults are 3D-Speaker's, 6,610,688 parameters: the paper's 4.64M and 1.97M in the embedding layer.

    >>> ERes2Net(channels=8).eval()(torch.randn(2, 200, 80)).shape
    torch.Size([2, 192])
    """

    def __init__(
        self,
        mels: int = 80,
        channels: int = 32,
        embedding_dim: int = 192,
        blocks: Sequence[int] = (3, 4, 6, 3),
        base_width: int = 32,
        scale: int = 2,
        expansion: int = 2,
        local_fusion: bool = True,
        global_fusion: bool = True,
        pooling_eps: float = 1e-8,
    ):
        kinds = (AddingBlock, AddingBlock, FusingBlock, FusingBlock) if local_fusion else (Res2NetBlock,) * 4
        super().__init__(
            mels, channels, embedding_dim, blocks, base_width, scale, expansion, pooling_eps, stage_blocks=kinds
        )
        self.global_fusion = global_fusion
        if global_fusion:
            width = channels * expansion
            self.layer1_downsample = conv3x3(width, 2 * width, stride=2)
            self.layer2_downsample = conv3x3(2 * width, 4 * width, stride=2)
            self.layer3_downsample = conv3x3(4 * width, 8 * width, stride=2)
            self.fuse_mode12 = AttentionalFeatureFusion(2 * width)
            self.fuse_mode123 = AttentionalFeatureFusion(4 * width)
            self.fuse_mode1234 = AttentionalFeatureFusion(8 * width)

    def feature_map(self, x: Tensor) -> Tensor:
        if not self.global_fusion:
            return super().feature_map(x)
        s1 = self.layer1(self.input_layer(x))  # (batch, channels * expansion, mels, frames)
        s2 = self.layer2(s1)  # twice the channels, half the mels and frames, and so on
        s3 = self.layer3(s2)
        s4 = self.layer4(s3)
        fused = self.fuse_mode12(s2, self.layer1_downsample(s1))
        fused = self.fuse_mode123(s3, self.layer2_downsample(fused))
        return self.fuse_mode1234(s4, self.layer3_downsample(fused))
