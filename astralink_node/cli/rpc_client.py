"""Asks a running node over JSON-RPC, for the verbs that look at one. One request after the other, over HTTP alone."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import BadStatusLine, HTTPException, LineTooLong
from typing import Any, Final
from urllib.parse import urlsplit

import click

from astralink_node.errors import AstraLinkError, UserError

DEFAULT_URL: Final = "http://127.0.0.1:8545"
TIMEOUT_S: Final = 35.0
"""Longer than a node takes at most to answer or to give up."""
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
EXIT_UNHEALTHY: Final = 1
EXIT_UNREACHABLE: Final = 69
"""EX_UNAVAILABLE."""
_METHOD_NOT_FOUND: Final = -32601

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class NodeUnreachable(AstraLinkError):
    """Nobody answers at the address, or not as a node does."""

    exit_code = EXIT_UNREACHABLE


class RequestFailed(UserError):
    """A node answers, with an error: its code, its words and what it says beside them (a revert's bytes).

    What it says is about what was asked, and is shown as it is.
    """

    def __init__(self, url: str, method: str, code: int, message: str, data: str | None) -> None:
        super().__init__(message)
        self.url = url
        self.method = method
        self.code = code
        self.message = message
        self.data = data


class NotServed(UserError):
    """The node answers, but does not serve what is asked for."""


def rpc_url_option() -> Decorator:
    """--rpc-url, or --rpc: passed as `rpc_url`."""
    return click.option(
        "--rpc-url", "--rpc", "rpc_url", default=DEFAULT_URL, show_default=True, help="Where the node serves JSON-RPC."
    )


class RpcClient:
    """Raises UserError for a URL that can be none."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--rpc-url: expected http://HOST:PORT, found {url!r}")
        self._url = url
        # A proxy that the environment names would be asked for this machine's own ports.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, method: str, *params: object) -> Any:
        """The result. Raises NodeUnreachable, NotServed, RequestFailed."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self._url, body, {"content-type": "application/json"})
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                text = response.read(MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            raise NodeUnreachable(f"{self._url}: expected a node, found HTTP status {error.code}") from error
        except (BadStatusLine, LineTooLong) as error:
            raise NodeUnreachable(f"{self._url}: expected a node, found something that is no HTTP server") from error
        except (OSError, ValueError, HTTPException) as error:  # URLError and time-outs are OSErrors
            reason = getattr(error, "reason", None) or error
            why = getattr(reason, "strerror", None) or reason
            raise NodeUnreachable(f"no node answers at {self._url}: {why}") from error
        return self._result(method, text)

    def _result(self, method: str, text: bytes) -> Any:
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise NodeUnreachable(f"{self._url}: expected a node's answer, found something that is no JSON") from error
        if not isinstance(answer, dict) or not ("result" in answer or isinstance(answer.get("error"), dict)):
            raise NodeUnreachable(f"{self._url}: expected a JSON-RPC answer, found other JSON")
        if "result" in answer:
            return answer["result"]
        problem = answer["error"]
        if problem.get("code") == _METHOD_NOT_FOUND:
            raise NotServed(
                f"{self._url} does not serve {method}: it is no AstraLink node of this version, or its --rpc-api "
                "leaves out astralink"
            )
        data = problem.get("data")
        raise RequestFailed(
            self._url,
            method,
            code if isinstance(code := problem.get("code"), int) else 0,
            str(problem.get("message")),
            data if isinstance(data, str) else None,
        )
