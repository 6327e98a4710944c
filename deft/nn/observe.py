"""From a batch's observations, goals and sentences to one feature vector per row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from deft.errors import ConfigError
from deft.nn.draws import Draws
from deft.nn.image_encoder import ImageEncoder, ImageNet
from deft.nn.inputs import Inputs
from deft.nn.mlp import MLP
from deft.nn.pooling import Pool
from deft.nn.resnet_bridge import Activation
from deft.spec import Feature, Spec, Stats

Fusion = Literal["early_concat", "late_concat", "late_add"]


@dataclass(frozen=True, kw_only=True)
class ObsEncoderConfig:
    """Settings of the observation encoder; those named `state_…` are for numbers."""

    image: ImageNet = "cnn"
    """`cnn`: four layers, for 64 to 96 pixels; `resnet18`: for 128 pixels and more, shaped as in
    torchvision; `resnetv1-18-bridge`, `-34-`, `-50-`: BridgeData V2's, and with `-film` behind
    them modulated by the sentence."""
    cnn_channels: int = 32
    """Channels of the first layer of `cnn`, a multiple of 8."""
    coordinates: bool = True
    """Row and column as two more channels of a bridge network's picture."""
    activation: Activation = "swish"
    """Of bridge networks."""
    pool: Pool = "spatial_softmax"
    """From map to vector: `average` or `max` of each channel, positions of patterns
    (`spatial_softmax`), sums with learned maps (`spatial_embeddings`), or the map as it is
    (`none`); the last two fix the size of pictures."""
    keypoints: int = 32
    """Learned patterns of `spatial_softmax`; 0 takes every channel as one."""
    learn_temperature: bool = False
    """Whether `spatial_softmax` learns how sharp it looks."""
    spatial_blocks: int = 8
    """Learned maps per channel of `spatial_embeddings`."""
    image_features: int = 64
    """Numbers per picture after pooling and a linear layer; 0 passes on what pooling gives."""
    shared: bool = False
    """One image network for all cameras instead of one each."""
    ticks: Literal["separate", "stacked"] = "separate"
    """Each observed tick through the network for itself, or all at once as channels."""
    goal_fusion: Fusion = "early_concat"
    """Where a picture of the goal enters: as channels beside the observation's, or encoded for
    itself and its features appended or added."""
    shared_goal_encoder: bool = True
    """Whether a goal that is encoded for itself uses the observation's network."""
    state_hidden: int = 0
    """Width of two layers over all ticks of the state; 0 passes the state on as it is."""
    state_noise: float = 0.0
    """Standard deviation of noise on each number while training, in normalised units. It keeps a
    policy from learning pauses and habits of the demonstrator by heart."""

    def __post_init__(self) -> None:
        checks = (
            ("cnn_channels", self.cnn_channels >= 8 and self.cnn_channels % 8 == 0, "8, 16, 24, …"),
            ("keypoints", self.keypoints >= 0, "0 or more"),
            ("spatial_blocks", self.spatial_blocks >= 1, "1 or more"),
            ("image_features", self.image_features >= 0, "0 or more"),
            ("state_hidden", self.state_hidden >= 0, "0 or more"),
            ("state_noise", self.state_noise >= 0, "0 or more"),
        )
        for name, fits, wanted in checks:
            if not fits:
                raise ConfigError(
                    f"encoder.{name} is {getattr(self, name)}.\nFix: set it to {wanted}."
                )


class Encoded(NamedTuple):
    """What the encoder gives."""

    vector: Tensor
    """`B D`."""
    maps: dict[str, Tensor]
    """The last map of each camera's network: `B To C Hf Wf`, or `B 1 C Hf Wf` of stacked ticks."""


class ObsEncoder(nn.Module):
    """Every camera and every number of all observed ticks, the goal and the sentence as a vector.

    Args:
        config: which networks.
        spec: the policy's contract; its horizons say how many ticks are seen, its goals which
            features have one.
        stats, modes, periodic: see `Inputs`.
        language: size of the sentence's vector, 0 without. It modulates networks named `-film`;
            with all others it is appended to the features.

    Raises:
        ConfigError: cameras of different channels share one network; a `-film` network without
            language; also as `Inputs`.
        SpecError: as `Inputs`.
    """

    def __init__(
        self,
        config: ObsEncoderConfig,
        spec: Spec,
        stats: Mapping[str, Stats] | None,
        modes: Mapping[str, str],
        periodic: Sequence[str] = (),
        language: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.inputs = Inputs(spec, stats, modes, periodic)
        self._ticks = spec.horizons.obs_horizon if spec.horizons else 1
        self._films = config.image.endswith("-film") and bool(self.inputs.cameras)
        if self._films and not language:
            raise ConfigError(
                f"encoder.image is '{config.image}', but this policy takes no language.\n"
                f"Fix: set encoder.image={config.image.removesuffix('-film')}."
            )
        cameras, goals = self.inputs.cameras, self.inputs.goal_cameras
        condition = language if self._films else 0
        early = config.goal_fusion == "early_concat"
        stacked = self._ticks if config.ticks == "stacked" else 1
        depths = [c.channels * (stacked + (early and c.name in goals)) for c in cameras]
        _check_sharing(config, cameras, depths)
        aimed = (
            [] if early or config.shared_goal_encoder else [c for c in cameras if c.name in goals]
        )
        self._network = {c.name: 0 if config.shared else i for i, c in enumerate(cameras)}
        self._goal_network = {c.name: 0 if config.shared else i for i, c in enumerate(aimed)}
        only = slice(1 if config.shared else None)
        self.images = nn.ModuleList(
            ImageEncoder(config, camera, depth, condition)
            for camera, depth in list(zip(cameras, depths, strict=True))[only]
        )
        self.goal_images = nn.ModuleList(
            ImageEncoder(config, camera, camera.channels, condition) for camera in aimed[only]
        )
        state = self._ticks * self.inputs.state_size
        self._state_noise = config.state_noise
        self.state: nn.Module = nn.Identity()
        if config.state_hidden and state:
            width = config.state_hidden
            self.state = nn.Sequential(MLP(state, width, width=width, depth=1), nn.SiLU())
            state = width
        looks = 1 if config.ticks == "stacked" else self._ticks
        late = config.goal_fusion == "late_concat"
        sizes = [cast(ImageEncoder, network).outputs for network in self.images]
        pictures = sum(
            (looks + (late and camera.name in goals)) * sizes[self._network[camera.name]]
            for camera in cameras
        )
        self.outputs: int = (
            state + pictures + self.inputs.goal_size + (0 if self._films else language)
        )
        """D, the size of the vector."""

    @property
    def image_networks(self) -> tuple[nn.Module, ...]:
        """Every network of pictures, which may learn at a rate of its own."""
        return (self.images, self.goal_images)

    def forward(
        self,
        obs: Mapping[str, Tensor],
        draws: Draws | None = None,
        *,
        goal: Mapping[str, Tensor] | None = None,
        language: Tensor | None = None,
    ) -> Float[Tensor, "B D"]:
        """`encode` without the maps."""
        return self.encode(obs, draws, goal=goal, language=language).vector

    def encode(
        self,
        obs: Mapping[str, Tensor],
        draws: Draws | None = None,
        *,
        goal: Mapping[str, Tensor] | None = None,
        language: Tensor | None = None,
    ) -> Encoded:
        """Features of one batch, and the maps that its pictures gave.

        With `draws`, and in training mode, numbers are disturbed by `state_noise`.

        Args:
            obs: pictures uint8 `B To H W C`, numbers `B To ...`, by name.
            draws: noise, keyed by row.
            goal: as `obs` without the To axis; needed when the contract has goals.
            language: `B L`; needed when the encoder was built for it.
        """
        parts: list[Tensor] = []
        if self.inputs.state_size:
            states = self.inputs.states(obs)  # B To P
            if draws is not None and self.training and self._state_noise:
                noise = draws.normal("state_noise", *states.shape[1:])  # B To P
                states = states + self._state_noise * noise
            parts.append(self.state(states.flatten(1)))  # B P'
        if self.inputs.goal_size:
            parts.append(self.inputs.goals(goal or {}))  # B G
        if language is not None and not self._films:
            parts.append(language)  # B L
        maps: dict[str, Tensor] = {}
        aims = self.inputs.goal_pictures(goal or {})
        for name, picture in self.inputs.pictures(obs).items():
            features, maps[name] = self._look(name, picture, aims.get(name), language)  # B T F
            parts.append(features.flatten(1))  # B T*F
        return Encoded(torch.cat(parts, -1), maps)  # B D

    def _look(
        self,
        camera: str,
        picture: Float[Tensor, "B To C H W"],
        aim: Float[Tensor, "B C H W"] | None,
        language: Float[Tensor, "B L"] | None,
    ) -> tuple[Float[Tensor, "B T F"], Float[Tensor, "B T2 C2 Hf Wf"]]:
        """Features of one camera: a row per tick or one of all, and one of the goal where that is
        appended; and the maps without the goal's."""
        network = self.images[self._network[camera]]
        rows, early = len(picture), self.config.goal_fusion == "early_concat"
        if self.config.ticks == "stacked":
            x = rearrange(picture, "B To C H W -> B 1 (To C) H W")
        else:
            x = picture  # B To C H W
        ticks = x.shape[1]
        if aim is not None and early:
            x = torch.cat((x, repeat(aim, "B C H W -> B T C H W", T=ticks)), 2)  # B T C' H W
        condition = None
        if language is not None and self._films:
            condition = repeat(language, "B L -> (B T) L", T=ticks)
        features, maps = network(x.flatten(0, 1), condition)  # B*T F, B*T C2 Hf Wf
        features = features.unflatten(0, (rows, ticks))  # B T F
        maps = maps.unflatten(0, (rows, ticks))  # B T C2 Hf Wf
        if aim is None or early:
            return features, maps
        condition = language if self._films else None
        if self.goal_images:
            apart, _ = self.goal_images[self._goal_network[camera]](aim, condition)  # B F
        else:
            # A shared network takes as many channels as it does of the observation.
            times = self._ticks if self.config.ticks == "stacked" else 1
            apart, _ = network(repeat(aim, "B C H W -> B (T C) H W", T=times), condition)  # B F
        if self.config.goal_fusion == "late_add":
            return features + apart[:, None], maps
        return torch.cat((features, apart[:, None]), 1), maps  # B T+1 F


def _check_sharing(
    config: ObsEncoderConfig, cameras: Sequence[Feature], depths: Sequence[int]
) -> None:
    if config.shared and len(set(depths)) > 1:
        pairs = zip(cameras, depths, strict=True)
        named = ", ".join(f"{camera.name} {depth}" for camera, depth in pairs)
        raise ConfigError(
            "Cameras that enter with different numbers of channels, those of observed ticks and "
            f"goals included, cannot share one network.\nFound: {named}.\n"
            "Fix: set encoder.shared=false, observe cameras of one kind, or take goals of all."
        )
