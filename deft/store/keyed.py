"""Random numbers without state: each is a hash of a key and a counter, the same on any machine."""

import numpy as np

_ROUNDS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = (np.uint64(n) for n in (30, 27, 31, 11))


def mix(values: np.ndarray) -> np.ndarray:
    """Hash uint64 values one by one; a bijection.

    Source: the finaliser of SplitMix64, Steele, Lea and Flood 2014, figure 19 (variant 13 of
    Stafford).
    """
    values = values + _GOLDEN
    values = (values ^ (values >> _S30)) * _MIX1
    values = (values ^ (values >> _S27)) * _MIX2
    return values ^ (values >> _S31)


def key(*parts: int) -> np.ndarray:
    """One uint64, as shape `1`, from any whole numbers; the order of the parts counts."""
    total = np.zeros(1, np.uint64)
    for part in parts:
        total = mix(total ^ np.asarray([part % 2**64], np.uint64))
    return total


def below(limits: np.ndarray, draws: np.ndarray, *parts: int) -> np.ndarray:
    """For each draw a whole number from 0 up to its limit, uniform.

    Args:
        limits: int64 `B`, 1 or more.
        draws: int64 `B`; the counter of the hash.
        parts: key of the hash.

    Returns:
        int64 `B`.
    """
    picked = np.floor(share(draws, *parts) * limits).astype(np.int64)
    return np.minimum(picked, limits - 1)  # the product may round up to the limit


def share(draws: np.ndarray, *parts: int) -> np.ndarray:
    """For each draw a number from 0 up to 1, uniform; float64 `B`. Arguments as `below`."""
    bits = mix(draws.astype(np.uint64) ^ key(*parts))
    return (bits >> _S11).astype(np.float64) * 2.0**-53


def chained(start: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """`key` with one more part, for many at once: uint64 `1` or `B` and int64 `B` to uint64 `B`."""
    return mix(start ^ parts.astype(np.uint64))


def permuted(positions: np.ndarray, limits: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """What stands at a position of a random order, each element in an order of its own.

    A Feistel network of 8 rounds on pairs of digits to the base ceil(sqrt(limit)); positions that
    leave the range walk on until they are back (cycle walking), which few do.

    Args:
        positions: int64 `B`, from 0 up to the limit.
        limits: how many things the order holds, int64 `1` or `B`, 1 or more.
        keys: of the order, uint64 `1` or `B`; elements with equal key and limit share an order.

    Returns:
        int64 `B`, from 0 up to the limit; a bijection for each order.

    Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", section 4.
    """
    bounds = np.broadcast_to(limits.astype(np.uint64), positions.shape)
    # Correctly rounded, and at most one too small or large beyond 2^52; the base must not be small.
    sides = np.ceil(np.sqrt(bounds.astype(np.float64))).astype(np.uint64)
    sides += sides * sides < bounds
    rounds = mix(keys + np.arange(_ROUNDS, dtype=np.uint64)[:, None])  # 8 B
    rounds = np.broadcast_to(rounds, (_ROUNDS, *positions.shape))
    found = _walk(positions.astype(np.uint64), sides, rounds)
    while (outside := found >= bounds).any():
        found[outside] = _walk(found[outside], sides[outside], rounds[:, outside])
    return found.astype(np.int64)


class Permutation:
    """A random order of `range(n)`, computed position by position, without a table.

    Args:
        n: how many, 1 or more.
        seed: of all epochs.
        epoch: each has an order of its own.
    """

    def __init__(self, n: int, seed: int, epoch: int) -> None:
        self._limit = np.asarray([n])
        self._key = key(seed, epoch)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """What stands at each position, int64 `B` to int64 `B`, both in `range(n)`."""
        return permuted(positions, self._limit, self._key)


def _walk(values: np.ndarray, sides: np.ndarray, rounds: np.ndarray) -> np.ndarray:
    high, low = values // sides, values % sides
    for keys in rounds:
        high, low = low, (high + mix(low ^ keys) % sides) % sides
    return high * sides + low
