"""Damaged bytes and odd values, drawn."""

from __future__ import annotations

import random
from typing import Any

_ODD_BYTES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
_ODD_WORDS = (
    *(b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00"),
    *(b"\x00\x00\x00\x01", b"\x01\x00\x00\x00", b"\x00\x00\xff\xff", b"\xff\xff\x00\x00"),
)


def mutant(content: bytes, chance: random.Random) -> bytes:
    """The bytes with one to four changes; never the same."""
    while True:
        changed = bytearray(content)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            _change(changed, chance)
        if changed != content:
            return bytes(changed)


def _change(content: bytearray, chance: random.Random) -> None:
    # headers decide most, so half of the changes fall into the first bytes
    reach = len(content) if chance.random() < 0.5 else min(len(content), 200)
    at, length = chance.randrange(reach + 1), chance.choice((1, 1, 2, 4, 8, 64, 512))
    part = bytes(content[at : at + length])
    other = chance.randrange(len(content) + 1)
    new = {
        "bit": bytes(byte ^ 1 << chance.randrange(8) for byte in part[:1]) + part[1:],
        "byte": bytes([chance.choice((*_ODD_BYTES, chance.randrange(256)))]) + part[1:],
        "word": chance.choice(_ODD_WORDS) + part[4:],
        "delete": b"",
        "repeat": part + part,
        "insert": chance.randbytes(length) + part,
        "zero": bytes(len(part)),
        "copy": bytes(content[other : other + length]),
        "digit": bytes([chance.choice(b'0123456789-.eE,:"{}[]n')]) + part[1:],
    }
    kind = chance.choice([*new, "cut"])
    if kind == "cut":
        del content[at:]
    else:
        content[at : at + length] = new[kind]


def json_mutant(value: Any, chance: random.Random) -> Any:
    """A JSON value of which one place, anywhere in it, is another value, lacks or is new."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        kind = chance.random()
        if kind < 0.15:
            return {name: each for name, each in value.items() if name != key}
        if kind < 0.25:
            return {**value, f"{key}x": value[key]}
        return {**value, key: json_mutant(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        at = chance.randrange(len(value))
        kind = chance.random()
        if kind < 0.15:
            return [*value[:at], *value[at + 1 :]]
        if kind < 0.3:
            return [*value[: at + 1], *value[at:]]
        return [*value[:at], json_mutant(value[at], chance), *value[at + 1 :]]
    return odd_value(value, chance)


def odd_value(value: Any, chance: random.Random) -> Any:
    """Another value in the place of one."""
    near: list[Any] = []
    if isinstance(value, (int, float)):
        near = [value + 1, -value, value * 2, value * 1.5, str(value)]
    if isinstance(value, str):
        near = [value + "x", value[:-1], value.upper(), value[::-1], "", f" {value}"]
    odd: list[Any] = [
        None,
        True,
        False,
        0,
        -1,
        1,
        0.5,
        2**31,
        2**63,
        -(2**64),
        1e308,
        1e-320,
        "",
        "x",
        [],
        {},
    ]
    odd += [[None], {"": 0}, "\0", "é\udc80", "../..", "a" * 3000, [[[]]], [value], {"a": value}]
    return chance.choice([*near * 4, *odd])
