"""Starting from weights that were learned before."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from deft import bundle, nn, policies
from deft.errors import TrainError

IGNORED = ("running_mean", "running_var", "num_batches_tracked")
"""Endings of averages that BatchNorm keeps; our networks have GroupNorm."""


@dataclass
class Loaded:
    """What was taken and what was not."""

    source: str
    taken: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    """Ours, which the source does not have."""
    unused: list[str] = field(default_factory=list)
    """The source's, which have no place here."""
    different: list[str] = field(default_factory=list)
    """In both, but of other shapes; stays fresh."""
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people; names only where something was not taken."""
        total = len(self.taken) + len(self.fresh) + len(self.different)
        said = [f"{self.source}: {len(self.taken)} of {total} weights are taken over"]
        named = (
            ("of another shape, stay fresh", self.different),
            ("not there, stay fresh", self.fresh),
            ("there, but have no place here", self.unused),
        )
        for what, names in named:
            if names:
                more = f" and {len(names) - 12} more" if len(names) > 12 else ""
                said.append(f"  {len(names)} {what}: {', '.join(names[:12])}{more}")
        return said + [f"  {note}" for note in self.notes]


@torch.no_grad()
def from_bundle(policy: policies.Policy, path: str) -> Loaded:
    """Take the weights of a bundle, checkpoint or run that fit by name and shape.

    Statistics stay those of the new data: normalisers, and numbers that a policy derives from
    them. Weights of goals, sentences or cameras that the source did not see stay fresh, and are
    listed.

    Raises:
        TrainError: nothing fits.
        BundleError: the path leads to no bundle, or to a damaged one.
    """
    found = bundle.load(bundle.resolve(path), device="cpu", golden=False).policy
    theirs, ours = found.state_dict(), policy.state_dict()
    own = _statistics(policy) | _statistics(found)
    loaded = Loaded(path)
    for name, tensor in ours.items():
        if name in own:
            continue
        if name not in theirs:
            loaded.fresh.append(name)
        elif theirs[name].shape != tensor.shape:
            loaded.different.append(f"{name} {_shape(theirs[name])} there, {_shape(tensor)} here")
        else:
            tensor.copy_(theirs[name])
            loaded.taken.append(name)
    loaded.unused = [name for name in theirs if name not in ours and name not in own]
    loaded.notes.append("statistics are those of the data trained on now")
    one, other = policies.family(found.config), policies.family(policy.config)
    if one != other:
        loaded.notes.append(f"it is a {one}, this is a {other}")
    _need_some(loaded, "a bundle of a policy like this one")
    return loaded


@torch.no_grad()
def encoder_from_file(policy: policies.Policy, path: str) -> Loaded:
    """Take the weights of one image network for every camera's.

    Names are those of the network itself, as torchvision's ResNets have them, or with any prefix
    before them. The first kernel of a file for colour pictures fits any number of channels: where
    that is a multiple of three it is repeated for every picture, otherwise every channel gets the
    mean over colours; both are scaled so that the sum over channels stays. Channels of coordinates
    keep what the file has for them, and begin at zero without.

    Raises `TrainError` when the file cannot be read, or there is nothing to load it into.
    """
    try:
        theirs = load_file(Path(path).expanduser())
    except (OSError, SafetensorError) as error:
        raise TrainError(
            f"init_encoder={path}: this file cannot be read.\nFound: {error}.\n"
            "Fix: give a .safetensors file; safetensors.torch.save_file writes one."
        ) from error
    bodies = {
        name: module.body
        for name, module in policy.named_modules()
        if isinstance(module, nn.ImageEncoder)
    }
    if not bodies:
        raise TrainError(
            f"init_encoder={path}: this policy has no image network.\n"
            "Fix: observe a camera, or leave init_encoder out."
        )
    loaded = Loaded(path)
    for where, body in bodies.items():
        ours = body.state_dict()
        prefix = _prefix(theirs, ours)
        for name, tensor in ours.items():
            given = theirs.get(prefix + name)
            full = f"{where}.body.{name}"
            if given is None:
                loaded.fresh.append(full)
                continue
            places = body.coordinate_channels if isinstance(body, nn.BridgeResNet) else 0
            if given.shape != tensor.shape and _is_stem(given, tensor, places):
                loaded.notes.append(
                    f"{full}: 3 colours in the file, {tensor.shape[1] - places} channels here; "
                    "spread over them"
                )
                given = widened(given, tensor.shape[1], places)
            if given.shape != tensor.shape:
                loaded.different.append(f"{full} {_shape(given)} there, {_shape(tensor)} here")
            else:
                tensor.copy_(given)
                loaded.taken.append(full)
        used = {prefix + name for name in ours}
        loaded.unused = [n for n in theirs if n not in used and not n.endswith(IGNORED)]
    _need_some(loaded, "weights whose names are those of `encoder.image`")
    return loaded


def widened(kernel: Tensor, channels: int, coordinates: int = 0) -> Tensor:
    """A kernel for colour pictures, `D 3 K K` or with its coordinates, for so many channels, of
    which the last `coordinates` hold no colours; see `encoder_from_file`."""
    seen = channels - coordinates
    kernel, last = kernel[:, :3], kernel[:, 3:]  # D 3 K K
    if seen % 3 == 0:
        spread = kernel.repeat(1, seen // 3, 1, 1) * (3.0 / seen)  # D seen K K
    else:
        spread = kernel.sum(1, keepdim=True).repeat(1, seen, 1, 1) / seen  # D seen K K
    still = kernel.new_zeros(len(kernel), coordinates, *kernel.shape[2:])
    return torch.cat((spread, last if last.shape[1] else still), 1)  # D channels K K


def _statistics(policy: policies.Policy) -> set[str]:
    """Names of what depends on the data's statistics and not on learning."""
    names = {name for name, _ in policy.named_buffers(recurse=False)}
    for prefix, module in policy.named_modules():
        if isinstance(module, nn.Normalizer):
            names |= {f"{prefix}.{name}" for name, _ in module.named_buffers()}
    return names


def _prefix(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str:
    """What the file writes before our names: the prefix under which most of them are found."""
    prefixes = {name[: -len(mine)] for mine in ours for name in theirs if name.endswith(mine)}
    return max(sorted(prefixes), key=lambda p: sum(p + mine in theirs for mine in ours), default="")


def _is_stem(given: Tensor, wanted: Tensor, coordinates: int) -> bool:
    return (
        given.ndim == wanted.ndim == 4
        and given.shape[1] in (3, 3 + coordinates)
        and (given.shape[0], *given.shape[2:]) == (wanted.shape[0], *wanted.shape[2:])
    )


def _need_some(loaded: Loaded, wanted: str) -> None:
    if not loaded.taken:
        raise TrainError(
            f"{loaded.source}: none of its weights fits.\nFound:\n"
            + "\n".join(loaded.lines()[1:])
            + f"\nFix: give {wanted}."
        )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"
