"""Pure numpy maps on episodes and on values; saved by name, and inverted without memory."""

from deft.transforms import rotations
from deft.transforms.bound import Bound, EpisodeTransform, Transform, Values, ValueTransform
from deft.transforms.gripper import BinarizeGripper, GripperRange, binarize
from deft.transforms.relabel import RelabelActions
from deft.transforms.relative import RelativeActions, RotationElements
from deft.transforms.resize import (
    ResizedFrames,
    fit_pictures,
    resize,
    resize_as,
    resized_feature,
)
from deft.transforms.rotation_form import RotationForm
from deft.transforms.table import TRANSFORMS, apply, bind, contract, load, save
from deft.transforms.timing import LatencyShift, PickedFrames, Resample

__all__ = [
    "TRANSFORMS",
    "BinarizeGripper",
    "Bound",
    "EpisodeTransform",
    "GripperRange",
    "LatencyShift",
    "PickedFrames",
    "RelabelActions",
    "RelativeActions",
    "Resample",
    "ResizedFrames",
    "RotationElements",
    "RotationForm",
    "Transform",
    "ValueTransform",
    "Values",
    "apply",
    "binarize",
    "bind",
    "contract",
    "fit_pictures",
    "load",
    "resize",
    "resize_as",
    "resized_feature",
    "rotations",
    "save",
]
