"""Fixed-width, big-endian reading and writing of the values that are hashed, signed or sent.

Every layout in this package is a plain concatenation: no tags inside, no padding, lengths before variable parts.
A decoder accepts exactly what its encoder writes, and says which field failed.
"""


class DecodeError(ValueError):
    """Bytes that are not the canonical encoding of what they should be."""

    def __init__(self, field: str, expected: str, found: str) -> None:
        super().__init__(f"{field}: expected {expected}, found {found}")
        self.field = field
        self.expected = expected
        self.found = found


def encode_unsigned(value: int, width: int, field: str) -> bytes:
    """`value` as `width` bytes, big endian."""
    if not 0 <= value < 1 << (8 * width):
        raise ValueError(f"{field}: {value} does not fit {width} unsigned bytes")
    return value.to_bytes(width, "big")


def encode_signed(value: int, width: int, field: str) -> bytes:
    """`value` as `width` bytes, big endian, two's complement: -1 is all ones."""
    limit = 1 << (8 * width - 1)
    if not -limit <= value < limit:
        raise ValueError(f"{field}: {value} does not fit {width} signed bytes")
    return value.to_bytes(width, "big", signed=True)


def exact_bytes(value: bytes, width: int, field: str) -> bytes:
    """`value`, which must be `width` bytes long."""
    if len(value) != width:
        raise ValueError(f"{field}: expected {width} bytes, found {len(value)}")
    return value


class WireReader:
    """Reads one canonical encoding from front to back; `finish` refuses what is left over."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, width: int, field: str) -> bytes:
        end = self._position + width
        if end > len(self._data):
            raise DecodeError(field, f"{width} bytes", f"{len(self._data) - self._position}")
        value = self._data[self._position : end]
        self._position = end
        return value

    def unsigned(self, width: int, field: str, *, maximum: int | None = None) -> int:
        value = int.from_bytes(self.take(width, field), "big")
        if maximum is not None and value > maximum:
            raise DecodeError(field, f"at most {maximum}", str(value))
        return value

    def signed(self, width: int, field: str) -> int:
        return int.from_bytes(self.take(width, field), "big", signed=True)

    def rest(self) -> bytes:
        """Everything that is left; the reader is then finished."""
        return self.take(len(self._data) - self._position, "rest")

    def finish(self) -> None:
        left = len(self._data) - self._position
        if left:
            raise DecodeError("end", "no more bytes", f"{left}")
