"""Physical units to normalised numbers and back, with the values kept among the weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from deft.errors import ConfigError, SpecError, nearest
from deft.spec import Feature, Stats

MODES = {
    "mean_std": "mean 0, standard deviation 1",
    "bounds": "smallest and largest value to -1 and 1",
    "quantile": "1st and 99th percentile to -1 and 1, nothing is clipped",
    "identity": "as it is",
}
"""Mode name to what it does."""

STATISTICS = ("mean", "std", "min", "max", "q01", "q99")


@dataclass(frozen=True, kw_only=True)
class NormalizeConfig:
    """How one feature is normalised, where the policy's own way is not wanted."""

    mode: str = ""
    """One of `MODES`; empty for the policy's default."""
    stats: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Values to use instead of those of the data, physical units: `mean`, `std`, `min`, `max`,
    `q01`, `q99`, one number per element each; what is left out comes from the data."""
    source: str = ""
    """Where `stats` are from, for people; the command line notes the file."""

    def __post_init__(self) -> None:
        for name in self.stats:
            if name not in STATISTICS:
                raise ConfigError(
                    f"normalize: there is no statistic '{name}'. {nearest(name, STATISTICS)}\n"
                    f"Fix: give some of {', '.join(STATISTICS)}."
                )

    def over(self, found: Stats | None, feature: Feature) -> Stats | None:
        """The statistics in use: those of the data with what was given in their place.

        Raises `SpecError` when a list has another length than the feature.
        """
        if not self.stats or found is None:
            return found
        given = {name: np.asarray(values, np.float64) for name, values in self.stats.items()}
        for name, values in given.items():
            if values.shape != (feature.size,):
                raise SpecError(
                    f"normalize.{feature.name}.stats.{name} has {values.size} numbers, the feature "
                    f"has {feature.size} ({feature.describe()}).\nFix: give one per element."
                )
        return replace(found, **given)


class Normalizer(nn.Module):
    """`(x - offset) * scale` per element, for any number of features.

    An element whose spread is below 1e-4 of its largest magnitude (or below 1e-8) counts as
    constant: it is shifted to 0 and keeps its unit, so that nothing is divided by ~0. In mode
    `quantile`, an element with equal percentiles but unequal bounds, as a rarely moving gripper
    has, is scaled by its bounds.

    Args:
        features: features to normalise, of any shape.
        stats: by feature name, physical units; None leaves values to be loaded with the weights.
        modes: one of `MODES` by feature name, for every feature.

    Raises:
        ConfigError: a mode is unknown.
        SpecError: statistics of a feature are missing or of another size.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        stats: Mapping[str, Stats] | None,
        modes: Mapping[str, str],
    ) -> None:
        super().__init__()
        for feature in features:
            mode = modes[feature.name]
            if mode not in MODES:
                raise ConfigError(
                    f"'{feature.name}' is to be normalised by '{mode}'. {nearest(mode, MODES)}\n"
                    f"Fix: set it to one of {', '.join(MODES)}."
                )
            offset, scale = np.zeros(feature.size), np.ones(feature.size)
            if stats is not None and mode != "identity":
                offset, scale = _fit(_stats_of(feature, stats), mode)
            for name, values in (("offset", offset), ("scale", scale)):
                tensor = torch.as_tensor(values, dtype=torch.float32).reshape(feature.shape)
                self.register_buffer(_buffer(feature.name, name), tensor)

    def forward(self, name: str, values: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Normalised values of feature `name`, float `... *shape` in physical units."""
        return (values - self._of(name, "offset")) * self._of(name, "scale")

    def inverse(self, name: str, values: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Physical values of feature `name` from normalised ones."""
        return values / self._of(name, "scale") + self._of(name, "offset")

    def _of(self, name: str, part: str) -> Tensor:
        return self.get_buffer(_buffer(name, part))


def _buffer(feature: str, part: str) -> str:
    # torch refuses dots in buffer names; the escape keeps different features different.
    return f"{feature.replace('%', '%25').replace('.', '%2E')}_{part}"


def _stats_of(feature: Feature, stats: Mapping[str, Stats]) -> Stats:
    if feature.name not in stats:
        raise SpecError(
            f"There are no statistics of '{feature.name}'. {nearest(feature.name, stats)}\n"
            f"Fix: compute them, or set `normalize.{feature.name}=identity`."
        )
    found = stats[feature.name]
    if len(found.mean) != feature.size:
        raise SpecError(
            f"Statistics of '{feature.name}' have {len(found.mean)} values, the feature has "
            f"{feature.size} ({feature.describe()}).\nFix: compute them from this data."
        )
    return found


def _fit(stats: Stats, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Offset and scale, float64 `D` each."""
    magnitude = np.maximum(np.abs(stats.min), np.abs(stats.max))
    floor = np.maximum(1e-4 * magnitude, 1e-8)
    if mode == "mean_std":
        spread = stats.std
        return stats.mean, 1.0 / np.where(spread < floor, 1.0, spread)
    low, high = stats.min, stats.max
    if mode == "quantile":
        moves = stats.q99 - stats.q01 >= floor
        low, high = np.where(moves, stats.q01, low), np.where(moves, stats.q99, high)
    half = (high - low) / 2
    return (low + high) / 2, 1.0 / np.where(2 * half < floor, 1.0, half)
