"""From a picture to a vector: a network, what pools its map, and a linear layer."""

from typing import TYPE_CHECKING, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deft.nn.images import ResNet18, SmallCNN
from deft.nn.pooling import AveragePool, MaxPool, SpatialEmbeddings, SpatialSoftmax
from deft.nn.resnet_bridge import BridgeResNet, Depth
from deft.spec import Feature

if TYPE_CHECKING:
    from deft.nn.observe import ObsEncoderConfig

ImageNet = Literal[
    "cnn",
    "resnet18",
    "resnetv1-18-bridge",
    "resnetv1-34-bridge",
    "resnetv1-50-bridge",
    "resnetv1-18-bridge-film",
    "resnetv1-34-bridge-film",
    "resnetv1-50-bridge-film",
]


class ImageEncoder(nn.Module):
    """One picture to `outputs` numbers.

    Args:
        config: which network and which pooling.
        camera: whose pictures; their size matters to poolings that keep places apart.
        inputs: channels that come in: those of the camera, of its history and of its goal.
        language: size of the sentence's vector that modulates the network, 0 for none.
    """

    def __init__(
        self, config: "ObsEncoderConfig", camera: Feature, inputs: int, language: int = 0
    ) -> None:
        super().__init__()
        self._conditioned = language > 0
        if config.image == "cnn":
            self.body: nn.Module = SmallCNN(inputs, config.cnn_channels)
        elif config.image == "resnet18":
            self.body = ResNet18(inputs)
        else:
            self.body = BridgeResNet(
                inputs,
                cast(Depth, int(config.image.split("-")[1])),
                coordinates=config.coordinates,
                activation=config.activation,
                language=language,
            )
        channels = self.body.outputs
        if config.pool == "average":
            self.pool, size = AveragePool(), channels
        elif config.pool == "max":
            self.pool, size = MaxPool(), channels
        elif config.pool == "spatial_softmax":
            self.pool = SpatialSoftmax(channels, config.keypoints, config.learn_temperature)
            size = self.pool.outputs
        else:
            height, width = self._cells(camera, inputs, language)
            if config.pool == "spatial_embeddings":
                self.pool = SpatialEmbeddings(channels, height, width, config.spatial_blocks)
                size = self.pool.outputs
            else:
                self.pool, size = nn.Flatten(), channels * height * width
        self.project: nn.Module = nn.Identity()
        if config.image_features:
            self.project = nn.Linear(size, config.image_features)
            size = config.image_features
        self.outputs = size

    def forward(
        self, x: Float[Tensor, "B C H W"], language: Float[Tensor, "B L"] | None = None
    ) -> tuple[Float[Tensor, "B F"], Float[Tensor, "B D Hf Wf"]]:
        """Picture from 0 to 1, and the sentence where it modulates; to features and the map."""
        maps = self.body(x, language) if self._conditioned else self.body(x)  # B D Hf Wf
        return self.project(self.pool(maps)), maps  # B F

    @torch.no_grad()
    def _cells(self, camera: Feature, inputs: int, language: int) -> tuple[int, int]:
        """Height and width of the map."""
        x = torch.zeros(1, inputs, camera.height, camera.width)
        maps = self.body(x, torch.zeros(1, language)) if language else self.body(x)
        return maps.shape[2], maps.shape[3]
