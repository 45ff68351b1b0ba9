"""Randomness as a pure function of names and numbers, never of what was drawn before.

A view, a shuffle or a dropout mask is keyed by what it belongs to (seed, epoch, image, purpose),
so nothing depends on workers, batch composition, world size or a restart.
"""

import hashlib
import math
import operator
from dataclasses import dataclass

import torch
from torch import Tensor


def _signed(bits: int) -> int:
    """The int64 with the bit pattern of an unsigned 64-bit constant."""
    return bits - (1 << 64) if bits >= 1 << 63 else bits


GOLDEN_RATIO = _signed(0x9E3779B97F4A7C15)
MIX_1 = _signed(0xBF58476D1CE4E5B9)
MIX_2 = _signed(0x94D049BB133111EB)


def key(*parts: int | str) -> int:
    """A number that names its parts: 63 bits of their BLAKE2b hash.

    Args:
        parts: integers and strings, in order; 1 and "1" are different parts.

    Returns:
        In [0, 2**63), the same on every platform and in every version.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        text = part if isinstance(part, str) else str(operator.index(part))
        kind = "s" if isinstance(part, str) else "i"
        data = text.encode()
        # Kind and length make the encoding unambiguous: ("ab", "c") is not ("a", "bc").
        digest.update(f"{kind}{len(data)}:".encode() + data)
    return int.from_bytes(digest.digest(), "big") >> 1


def generator(*parts: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """A fresh torch generator seeded with `key(*parts)`.

    On the CPU, torch keeps the low 32 bits of a seed: fine for a shuffle, too few to name every
    image of every epoch, which is what `uniform` is for.
    """
    return torch.Generator(device).manual_seed(key(*parts))


def _mix(bits: Tensor) -> Tensor:
    """Finaliser of SplitMix64, in place on int64, whose products wrap and shifts are signed.

    Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators";
    constants of Stafford's variant 13.
    """
    bits.bitwise_xor_((bits >> 30).bitwise_and_((1 << 34) - 1)).mul_(MIX_1)
    bits.bitwise_xor_((bits >> 27).bitwise_and_((1 << 37) - 1)).mul_(MIX_2)
    return bits.bitwise_xor_((bits >> 31).bitwise_and_((1 << 33) - 1))


def uniform(seed_key: int, rows: Tensor, draws: int) -> Tensor:
    """Counter-based uniform numbers: entry (i, j) is a function of (seed_key, rows[i], j) only.

    Args:
        seed_key: from `key`.
        rows: (N,) int64, for instance image indices; the order and the company of a row are
            irrelevant, and so is the device.
        draws: numbers per row; a longer request begins with the numbers of a shorter one.

    Returns:
        (N, draws) float32 in [0, 1), multiples of 2**-24, on the device of `rows`.

    Source: SplitMix64; every row is a stream of its own, started at a hash of (key, row).
    """
    start = _mix((rows + 1).mul_(GOLDEN_RATIO).add_(seed_key))
    counter = torch.arange(1, draws + 1, device=rows.device).mul_(GOLDEN_RATIO)
    bits = _mix(start[:, None] + counter)
    return (bits >> 40).bitwise_and_((1 << 24) - 1).to(torch.float32).mul_(2.0**-24)


_ROUNDS, _ROUNDS_OF_FEW = 8, 24  # fewer leave orders of a few rows that come up too often
_FEW = 1000  # rows; measured: 8 rounds do from 100 on, 24 from 2 on


def shuffled(seed_key: int, positions: Tensor, size: int) -> Tensor:
    """The rows at some positions of a shuffled list of `size` rows, without making the list.

    A bijection of 0 .. size - 1 that the key chooses: every row has one position. Memory and time
    depend on the number of positions alone.

    Args:
        seed_key: from `key`.
        positions: int64 in [0, size), any shape.
        size: >= 1.

    Returns:
        int64, the shape of `positions`.

    Source: the generalised Feistel cipher with cycle walking of Black and Rogaway 2002, "Ciphers
    with arbitrary finite domains". A position is a pair of digits to the bases a and b, with
    a * b >= size; each round adds a hash of one digit to the other. Pairs past the end are walked
    on from. One base is even, or only even permutations would be reached.
    """
    width = 2 * math.ceil(math.sqrt(size) / 2)
    height = -(-size // width)
    rounds = _ROUNDS_OF_FEW if size < _FEW else _ROUNDS
    keys = [key(seed_key, number) for number in range(rounds)]

    def walk(pairs: Tensor) -> Tensor:
        low, high = pairs % width, pairs // width
        for number in range(0, rounds, 2):
            low = (low + (_mix(high * GOLDEN_RATIO + keys[number]) >> 2) % width) % width
            high = (high + (_mix(low * GOLDEN_RATIO + keys[number + 1]) >> 2) % height) % height
        return high * width + low

    rows = walk(positions)
    while bool((outside := rows >= size).any()):
        rows[outside] = walk(rows[outside])
    return rows


@dataclass(frozen=True)
class StepContext:
    """Names the training step, and with it every random choice made outside the views.

    Attributes:
        seed: of the run.
        step: optimizer steps done before this one.
        shard: the logical shard, which is the rank unless shards are emulated.
        elapsed: share of the run that is done before this step, in [0, 1).
    """

    seed: int = 0
    step: int = 0
    shard: int = 0
    elapsed: float = 0.0

    def permutation(self, purpose: str, n: int) -> Tensor:
        """(n,) int64 on the CPU: a permutation of this (seed, step, purpose, shard)."""
        source = generator(self.seed, self.step, purpose, self.shard)
        return torch.randperm(n, generator=source)

    def global_permutation(self, purpose: str, n: int) -> Tensor:
        """(n,) int64 on the CPU: a permutation of (seed, step, purpose), equal on every shard."""
        source = generator(self.seed, self.step, purpose, "every shard")
        return torch.randperm(n, generator=source)
