"""How inputs are changed, and what counts as handled."""

from __future__ import annotations

import random
import sys
import traceback
from collections.abc import Callable

_WORDS = (
    *(b"", b"\0", b"\xff", b"\xff\xfe", b"{", b"}", b"[" * 200, b'"', b"\\ud800", b"null"),
    *(b"-1", b"0", b"1e999", b"NaN", b"18446744073709551616", b"true", b"\n", b"\r\n", b"%s"),
    *(b"2106-02-07T06:28:16Z", b"0000-00-00", b"=", b"'''", b"\xc3\x28", b"9" * 5000),
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """`data` with one to four changes: a byte, a piece, a word from a list of bad ones."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        end = min(at + chance.choice((1, 1, 2, 8, 64)), len(changed))
        match chance.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                del changed[at:end]
            case 2:
                changed[at:at] = changed[at:end]
            case 3:
                changed[at:end] = chance.choice(_WORDS)
            case 4:
                changed[at:at] = chance.randbytes(chance.randint(1, 16))
            case _:
                changed[at:end] = chance.randbytes(end - at)
    return bytes(changed)


def unhandled(what: str, work: Callable[[], object], *allowed: type[Exception]) -> int:
    """Do `work`; 0 if it returns or raises one of `allowed`, else 1 and the trace on stderr."""
    try:
        work()
    except allowed:
        return 0
    except Exception:
        sys.stderr.write(f"{what}: unhandled\n{traceback.format_exc()}\n")
        return 1
    return 0
