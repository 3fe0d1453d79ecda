"""ethereum/tests RLPTests on our strict codec: what is valid survives, everything else is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from astralink_node.evm import rlp

FOLDER = Path(__file__).parents[1] / "fixtures" / "unpacked" / "ethereum_tests" / "RLPTests"


def cases(*, valid: bool) -> list[Any]:
    found = []
    for path in sorted(FOLDER.rglob("*.json")):
        for name, case in json.loads(path.read_bytes()).items():
            if (case["in"] != "INVALID") == valid and case["in"] != "VALID":
                found.append(pytest.param(case["in"], case["out"], id=f"{path.stem}/{name}"))
    if not found:
        raise FileNotFoundError(f"{FOLDER}: no RLP tests; run `make`")
    return found


def as_item(value: object) -> rlp.Item:
    """The vectors write strings as text, integers as numbers, and big ones as text after a #."""
    if isinstance(value, list):
        return [as_item(entry) for entry in value]
    if isinstance(value, int):
        return rlp.big_endian(value)
    text = str(value)
    return rlp.big_endian(int(text[1:])) if text.startswith("#") else text.encode()


@pytest.mark.parametrize(("value", "encoded"), cases(valid=True))
def test_a_valid_vector_encodes_and_decodes(value: object, encoded: str) -> None:
    raw = bytes.fromhex(encoded.removeprefix("0x"))
    assert rlp.encode(as_item(value)) == raw
    assert rlp.decode(raw, max_depth=64) == as_item(value)


@pytest.mark.parametrize(("_value", "encoded"), cases(valid=False))
def test_an_invalid_vector_is_refused(_value: object, encoded: str) -> None:
    with pytest.raises(rlp.MalformedRlp):
        rlp.decode(bytes.fromhex(encoded.removeprefix("0x")), max_depth=64)
