"""`evidence submit`: what it reads, what it asks the node, and what it says of what it cannot read."""

from pathlib import Path

import pytest

from astralink_node.cli import evidence, main
from astralink_node.cli.rpc_client import RequestFailed

NO_HEX = "error: evidence: expected one line of hex, 0x first or not"


class HeardNode:
    """Notes what it was asked."""

    asked: list[tuple[str, object]] = []  # noqa: RUF012  (made anew for every test)

    def __init__(self, url: str) -> None:
        self._url = url

    def call(self, method: str, *params: object) -> str:
        self.asked.append((method, *params))  # type: ignore[arg-type]
        if params == ("0x07",):
            raise RequestFailed(self._url, method, -32000, "malformed evidence: form: expected 1 or 2, found 7", None)
        return "0x51"


@pytest.fixture(autouse=True)
def node(monkeypatch: pytest.MonkeyPatch) -> type[HeardNode]:
    monkeypatch.setattr(HeardNode, "asked", [])
    monkeypatch.setattr(evidence, "RpcClient", HeardNode)
    return HeardNode


@pytest.mark.parametrize("text", ["0x0102\n", "0102", "  0x01 02 "])
def test_the_digits_of_the_file_go_to_the_node_and_the_hash_is_shown(
    text: str, tmp_path: Path, node: type[HeardNode], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evidence.hex"
    file.write_text(text)
    assert main.run(["evidence", "submit", str(file)]) == 0
    assert node.asked == [("astralink_submitEvidence", "0x0102")]
    assert capsys.readouterr().out == "0x51\n"


def test_a_nodes_refusal_is_its_own_words_and_no_missing_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evidence.hex"
    file.write_text("07")
    assert main.run(["evidence", "submit", str(file)]) == 2
    assert capsys.readouterr().err == "error: malformed evidence: form: expected 1 or 2, found 7\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        *((each, f"{NO_HEX}\n") for each in (b"0x1", b"\xff\xfe", b"{}", b"\x00" * 40, b"", b"0x\n")),
        (b"00" * 9_000, "evidence: expected at most 16384 bytes of hex digits, found more"),
        (b"07", "malformed evidence: form: expected 1 or 2, found 7"),
    ],
)
def test_what_is_none_is_refused_in_one_line(
    content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evidence.hex"
    file.write_bytes(content)
    assert main.run(["evidence", "submit", str(file)]) != 0
    assert said in capsys.readouterr().err
