"""A file of a few sections that is whole or refused: magic, version, lengths, checksum.

Layout, little-endian: 4 bytes "PWFN", uint32 version, uint64 length of each of the four sections, the
sections, SHA-256 of everything before. SHA-256 because hardware computes it faster than the sections decode,
and because it also names the content; a CRC would miss one alteration in 2**32. It detects damage and does
not prove who wrote the file.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

__all__ = ["VERSION", "join", "split"]

VERSION = 2

_MAGIC = b"PWFN"
_PREFIX = struct.Struct("<4sI4Q")
_DIGEST = hashlib.sha256().digest_size


def join(sections: Sequence[bytes]) -> bytes:
    """The bytes of a file that holds these four sections."""
    data = _PREFIX.pack(_MAGIC, VERSION, *map(len, sections)) + b"".join(sections)
    return data + hashlib.sha256(data).digest()


def split(data: bytes) -> list[bytes]:
    """Cut a file into its four sections.

    Raises:
        ValueError: if the file is foreign, of another version, truncated or altered; the message continues a
            sentence that begins with the file's name.
    """
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("is not a pwfn file")
    if len(data) < _PREFIX.size:
        raise ValueError(f"is truncated: it ends within its first {_PREFIX.size} bytes")
    _, version, *lengths = _PREFIX.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"has version {version} of the format; this pwfn reads version {VERSION}")
    expected = _PREFIX.size + sum(lengths) + _DIGEST
    if len(data) != expected:
        raise ValueError(f"is truncated or altered: {len(data)} bytes, where it announces {expected}")
    if hashlib.sha256(data[:-_DIGEST]).digest() != data[-_DIGEST:]:
        raise ValueError("is altered: its checksum does not match")
    ends = [_PREFIX.size + sum(lengths[: i + 1]) for i in range(len(lengths))]
    return [data[end - length : end] for end, length in zip(ends, lengths, strict=True)]
