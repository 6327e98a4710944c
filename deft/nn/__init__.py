"""Blocks that policies are made of."""

from deft.nn import augment_plan
from deft.nn.action_head import ActionHead, ActionHeadConfig
from deft.nn.augment import Augment
from deft.nn.augment_plan import AugmentConfig
from deft.nn.device import pick_device
from deft.nn.diffusion import Diffusion, FourierFeatures, NoiseSchedule, betas
from deft.nn.draws import Draws
from deft.nn.flow import (
    TIMES,
    Velocity,
    euler,
    guide,
    interpolate,
    prefix_weights,
    sample_times,
    time_features,
    towards,
)
from deft.nn.heads import GaussianHead, Std, gaussian_nll, squashed_nll
from deft.nn.image_encoder import ImageEncoder, ImageNet
from deft.nn.images import BasicBlock, ResNet18, SmallCNN
from deft.nn.inputs import Batch, Inputs, number_features, to_unit
from deft.nn.loss import masked_mean, next_rows, row_mean
from deft.nn.mlp import MLP, ResidualBlock, Trunk
from deft.nn.noise_net import MLPResNet
from deft.nn.normalizer import MODES, NormalizeConfig, Normalizer
from deft.nn.observe import Encoded, ObsEncoder, ObsEncoderConfig
from deft.nn.optim import Objective, OptimConfig, lr_factor, parameter_groups
from deft.nn.pooling import Pool, SpatialEmbeddings, SpatialSoftmax
from deft.nn.resnet_bridge import STAGES, Activation, BridgeResNet, FiLM
from deft.nn.saliency import SaliencyConfig, predicted_saliency, saliency_loss
from deft.nn.targets import follow, frozen_copy
from deft.nn.text import TextEncoder, identify

__all__ = [
    "MLP",
    "MODES",
    "STAGES",
    "TIMES",
    "ActionHead",
    "ActionHeadConfig",
    "Activation",
    "Augment",
    "AugmentConfig",
    "BasicBlock",
    "Batch",
    "BridgeResNet",
    "Diffusion",
    "Draws",
    "Encoded",
    "FiLM",
    "FourierFeatures",
    "GaussianHead",
    "ImageEncoder",
    "ImageNet",
    "Inputs",
    "MLPResNet",
    "NoiseSchedule",
    "NormalizeConfig",
    "Normalizer",
    "Objective",
    "ObsEncoder",
    "ObsEncoderConfig",
    "OptimConfig",
    "Pool",
    "ResNet18",
    "ResidualBlock",
    "SaliencyConfig",
    "SmallCNN",
    "SpatialEmbeddings",
    "SpatialSoftmax",
    "Std",
    "TextEncoder",
    "Trunk",
    "Velocity",
    "augment_plan",
    "betas",
    "euler",
    "follow",
    "frozen_copy",
    "gaussian_nll",
    "guide",
    "identify",
    "interpolate",
    "lr_factor",
    "masked_mean",
    "next_rows",
    "number_features",
    "parameter_groups",
    "pick_device",
    "predicted_saliency",
    "prefix_weights",
    "row_mean",
    "saliency_loss",
    "sample_times",
    "squashed_nll",
    "time_features",
    "to_unit",
    "towards",
]
