"""Blocks that policies are made of."""

from deft.nn import augment_plan
from deft.nn.augment import Augment
from deft.nn.augment_plan import AugmentConfig
from deft.nn.device import pick_device
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
from deft.nn.heads import GaussianHead, Std, gaussian_nll
from deft.nn.images import BasicBlock, ResNet18, SmallCNN, SpatialSoftmax
from deft.nn.inputs import Batch, Inputs, number_features, to_unit
from deft.nn.loss import masked_mean
from deft.nn.mlp import MLP, ResidualBlock
from deft.nn.normalizer import MODES, Normalizer
from deft.nn.observe import ObsEncoder, ObsEncoderConfig
from deft.nn.optim import Objective, OptimConfig, lr_factor, parameter_groups

__all__ = [
    "MLP",
    "MODES",
    "TIMES",
    "Augment",
    "AugmentConfig",
    "BasicBlock",
    "Batch",
    "Draws",
    "GaussianHead",
    "Inputs",
    "Normalizer",
    "Objective",
    "ObsEncoder",
    "ObsEncoderConfig",
    "OptimConfig",
    "ResNet18",
    "ResidualBlock",
    "SmallCNN",
    "SpatialSoftmax",
    "Std",
    "Velocity",
    "augment_plan",
    "euler",
    "gaussian_nll",
    "guide",
    "interpolate",
    "lr_factor",
    "masked_mean",
    "number_features",
    "parameter_groups",
    "pick_device",
    "prefix_weights",
    "sample_times",
    "time_features",
    "to_unit",
    "towards",
]
