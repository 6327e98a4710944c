"""What every policy can do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from deft.errors import ShapeError
from deft.nn import Batch, Draws, Objective, OptimConfig, SaliencyConfig, saliency_loss
from deft.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """The chunk that is running while the next one is computed, aligned to now.

    Raises `ShapeError` when the counts do not fit the chunk.
    """

    actions: Float[Tensor, "B Tp A"]
    """Physical units, row 0 is for now; rows from `known` on are ignored."""
    delay: Int64[Tensor, " B"]
    """Rows that run before the new chunk arrives, so that it must agree with them; 0 to `known`."""
    known: Int64[Tensor, " B"]
    """Rows that the running chunk still has; `delay` to Tp."""

    def __post_init__(self) -> None:
        rows = self.actions.shape[1]
        if not bool(((self.delay >= 0) & (self.delay <= self.known) & (self.known <= rows)).all()):
            raise ShapeError(
                f"A prefix needs 0 <= delay <= known <= {rows}, row by row.\n"
                f"Found: delay {self.delay.tolist()}, known {self.known.tolist()}.\n"
                "Fix: count the rows that are left of the running chunk."
            )

    def held(self) -> Float[Tensor, "B Tp A"]:
        """The actions, with the last known row repeated after it; zeros where none is known."""
        rows = torch.arange(self.actions.shape[1], device=self.known.device)[None, :]  # 1 Tp
        source = torch.minimum(rows, (self.known[:, None] - 1).clamp(min=0))  # B Tp
        index = source[..., None].expand_as(self.actions)  # B Tp A
        kept = self.actions.gather(1, index)  # B Tp A
        return kept.where((self.known > 0)[:, None, None], torch.zeros_like(kept))

    def committed(self) -> Tensor:
        """True for the first `delay` rows, bool `B Tp`."""
        rows = torch.arange(self.actions.shape[1], device=self.delay.device)[None, :]  # 1 Tp
        return rows < self.delay[:, None]


class Policy(nn.Module, ABC):
    """Learns from demonstrations and answers observations with chunks of actions.

    It has no memory between calls. Batches are in physical units; what is normalised stays
    inside. `spec` is its contract (observed features, the action, horizons), `config` the
    dataclass it was built from.
    """

    spec: Spec
    config: Any
    gathered: ClassVar[tuple[str, ...]] = ()
    """Modules whose weights are read in `losses` or `after_step` other than by calling them; a
    training in shards gathers them for the whole of either."""

    @abstractmethod
    def losses(
        self, batch: Batch, draws: Draws
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Float[Tensor, ""]]]:
        """One scalar per objective to descend, and further scalars to log.

        Args:
            batch: with `action`; rows that `action_valid` leaves out are not in the loss.
            draws: noise, keyed by row.

        Raises:
            ShapeError: the batch has no actions.
        """

    @abstractmethod
    def predict(
        self, batch: Batch, draws: Draws, prefix: Prefix | None = None
    ) -> Float[Tensor, "B Tp A"]:
        """One chunk per row, physical units, each a function of its observation and draws alone.

        Call it under `torch.no_grad`, not under `inference_mode`: with a prefix it may
        differentiate.

        Args:
            batch: observations; `action` is ignored.
            draws: noise, keyed by row.
            prefix: the chunk that is running, when the new one must continue it.
        """

    @abstractmethod
    def objectives(self, optim: OptimConfig) -> dict[str, Objective]:
        """Parameter groups of each loss, by name; every trained parameter is in one of them."""

    @abstractmethod
    def after_step(self) -> None:
        """Called after every optimiser step: the place to move target networks."""


def keep_committed(
    chunk: Float[Tensor, "B Tp A"], prefix: Prefix | None
) -> Float[Tensor, "B Tp A"]:
    """The chunk of a policy that cannot be steered: rows that will run anyway are handed back as
    they are, and the seam behind them is the caller's to blend."""
    if prefix is None:
        return chunk
    return torch.where(prefix.committed()[..., None], prefix.actions, chunk)


def regularised(
    config: SaliencyConfig,
    loss: Float[Tensor, ""],
    parts: dict[str, Tensor],
    batch: Batch,
    maps: Mapping[str, Tensor],
) -> Float[Tensor, ""]:
    """The loss with saliency regularisation, which is noted in `parts`; the same loss without."""
    if not config.acts:
        return loss
    extra = saliency_loss(config, maps, batch.saliency)
    parts["saliency_reg"] = extra
    return loss + config.weight * extra
