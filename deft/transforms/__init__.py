"""Pure numpy maps on episodes and on values; saved by name, and inverted without memory."""

from deft.transforms import rotations
from deft.transforms.bound import Bound, EpisodeTransform, Transform, Values, ValueTransform
from deft.transforms.gripper import BinarizeGripper, GripperRange, binarize
from deft.transforms.merge import Merged, merged
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
from deft.transforms.views import (
    View,
    changed,
    is_change,
    renamed,
    resampled,
    resized,
    with_cameras,
    with_name,
    with_prefix,
    with_spec,
    with_splits,
    without,
)

__all__ = [
    "TRANSFORMS",
    "BinarizeGripper",
    "Bound",
    "EpisodeTransform",
    "GripperRange",
    "LatencyShift",
    "Merged",
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
    "View",
    "apply",
    "binarize",
    "bind",
    "changed",
    "contract",
    "fit_pictures",
    "is_change",
    "load",
    "merged",
    "renamed",
    "resampled",
    "resize",
    "resize_as",
    "resized",
    "resized_feature",
    "rotations",
    "save",
    "with_cameras",
    "with_name",
    "with_prefix",
    "with_spec",
    "with_splits",
    "without",
]
