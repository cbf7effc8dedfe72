"""Sizes in bytes as people write and read them."""

import re

from trainable.errors import UsageError

SIZE = re.compile(r"(\d+(?:\.\d+)?) *([KMGT]?)I?B?")


def parse_size(text: str, flag: str) -> int:
    """`500MB`, `2GB`, `1.5TB` or `0` -> bytes."""
    match = SIZE.fullmatch(text.strip().upper())
    if match is None:
        raise UsageError(f"{flag} {text}: give a size such as 500MB, 2GB or 0")
    number, unit = match.groups()
    return int(float(number) * 1000 ** " KMGT".index(unit or " "))


def size_text(size: float) -> str:
    """`2.5 GB`: bytes in the largest unit of which there is one."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
