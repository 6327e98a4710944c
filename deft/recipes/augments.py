"""Named augmentations, each as the settings it changes in `nn.AugmentConfig`."""

from typing import Any

from deft import nn, spec
from deft.errors import ConfigError, nearest

AUGMENTS: dict[str, dict[str, Any]] = {
    # Pictures as they are.
    "none": {},
    # BridgeData's items and ranges with independent draws.
    "bridge": {"order": nn.augment_plan.ITEMS},
    # What BridgeData's JAX code really does: its formulae, and one number that decides everything.
    "bridge_upstream": {
        "order": nn.augment_plan.ITEMS,
        "compat": "tensorflow",
        "one_draw": True,
    },
    # PyTorch ports: torchvision's formulae. That its saliency maps did not move is
    # `policy.saliency.augment=false`.
    "bridge_torch": {
        "order": nn.augment_plan.ITEMS,
        "compat": "torchvision",
    },
    # Only moved, or only coloured.
    "crop": {"order": nn.augment_plan.ITEMS[:1]},
    "colour": {"order": nn.augment_plan.ITEMS[1:]},
}
"""Every value of `augment=`."""


def augment(name: str) -> dict[str, Any]:
    """All settings of a named augmentation, as a plain tree.

    Raises `ConfigError` for a name that is not there.
    """
    if name not in AUGMENTS:
        raise ConfigError(
            f"There is no augmentation '{name}'. {nearest(name, AUGMENTS)}\n"
            "Fix: choose one of these with `augment=`; its items can be set one by one, as in "
            "`augment.brightness=0.1`."
        )
    return spec.to_plain(nn.AugmentConfig(**AUGMENTS[name]))
