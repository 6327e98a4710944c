"""Means of what training measures, taken without making any step wait for the device."""

from collections.abc import Mapping

import torch
from torch import Tensor

from deft.train.distributed import Ranks

_CHUNK = 1000
"""Values of one name that are kept apart before they are joined."""


class Meter:
    """Keeps every step's values, on the device, until they are looked at."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}
        self._chunks: dict[str, list[Tensor]] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """One step's values, scalars; of several ranks, shares that add up."""
        for name, value in values.items():
            held = self._values.setdefault(name, [])
            held.append(value.float())
            if len(held) == _CHUNK:
                self._chunks.setdefault(name, []).append(torch.stack(held).cpu())
                held.clear()

    def held(self, ranks: Ranks) -> dict[str, Tensor]:
        """By name, all values since `clear`, float64 one per step, of all ranks together."""
        names = list(self._values)
        if not names:
            return {}
        rows = [
            torch.cat([*self._chunks.get(name, ()), *(v.reshape(1).cpu() for v in some)])
            if (some := self._values[name]) or name in self._chunks
            else torch.zeros(0)
            for name in names
        ]
        table = torch.stack(rows).double()  # names steps
        summed = torch.tensor(ranks.total(table.flatten().tolist()), dtype=torch.float64)
        return dict(zip(names, summed.reshape(table.shape), strict=True))

    def load(self, held: Mapping[str, Tensor], ranks: Ranks) -> None:
        """Go on with what `held` gave; the first rank takes it all."""
        self.clear()
        for name, values in held.items():
            kept = values.double().cpu()
            if not ranks.is_first:
                kept = torch.zeros_like(kept)
            self._values[name] = []
            self._chunks[name] = [kept]

    def clear(self) -> None:
        """Start afresh."""
        self._values = {}
        self._chunks = {}
