"""Averages over what may be learned from, and negatives from within a batch."""

from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean(
    values: Float[Tensor, "B Tp A"], valid: Bool[Tensor, "B Tp"] | None
) -> Float[Tensor, ""]:
    """Mean over the elements of valid rows; 0 when none is valid. None takes all rows."""
    if valid is None:
        return values.mean()
    # where, not a product: a row that is left out may hold anything, infinity included.
    kept = values.where(valid[..., None], values.new_zeros(()))  # B Tp A
    return kept.sum() / (valid.sum() * values.shape[-1]).clamp(min=1)


def row_mean(
    values: Float[Tensor, "B Tp"], valid: Bool[Tensor, "B Tp"] | None
) -> Float[Tensor, ""]:
    """Mean over valid rows of one number each; 0 when none is valid. None takes all rows."""
    return masked_mean(values[..., None], valid)


def next_rows(values: Tensor, axis: int = 0) -> Tensor:
    """Along an axis, row i holds what row i+1 held, and the last one what the first did."""
    return values.roll(-1, axis)
