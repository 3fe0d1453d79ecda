"""Traces transactions on Ethereum's execution specifications (PyPI: ethereum-execution): JSON lines in and out.

Run by an interpreter of its own that has that package, and nothing of ours; see ``eels_traces.py``. The first line out
names the package's version. A question is a
case as for ``eels_side.py``; the answer is the EIP-3155 lines of its transactions, made by the specification's own
tracer, and the reasons for which transactions were refused. No system call and no withdrawal is part of it.
"""

from __future__ import annotations

import io
import json
import sys
import threading
from importlib.metadata import version
from typing import Any

from eels_side import RECURSION_LIMIT, THREAD_STACK_BYTES, Specification
from ethereum.trace import set_evm_trace
from ethereum_spec_tools.evm_tools.t8n.evm_trace.eip3155 import Eip3155Tracer

MAX_LINES = 1_000
"""Of one case; a longer trace is answered as too long."""


class TraceTooLong(Exception):
    pass


class BoundedTracer(Eip3155Tracer):
    def __call__(self, evm: Any, event: Any) -> None:
        super().__call__(evm, event)
        if len(self.active_traces) > MAX_LINES:
            raise TraceTooLong


def traced(specification: Specification, case: dict[str, Any]) -> dict[str, Any]:
    written = io.StringIO()
    set_evm_trace(BoundedTracer(output_basedir=written))
    environment = specification._environment(case)
    rejected = specification._apply_transactions(environment, specification.vm.BlockOutput(), case["transactions"])
    return {"lines": [json.loads(line) for line in written.getvalue().splitlines()], "rejected": rejected}


def answer_all() -> None:
    sys.setrecursionlimit(RECURSION_LIMIT)
    print(json.dumps({"version": version("ethereum-execution")}), flush=True)
    specifications = {fork: Specification(fork) for fork in ("Prague", "Osaka")}
    for line in sys.stdin:
        case = json.loads(line)
        try:
            answer = traced(specifications[case["fork"]], case)
        except (ArithmeticError, AssertionError, LookupError, TraceTooLong, TypeError, ValueError) as error:
            # Where a state is impossible, such as a balance above 2**256, the specification ends so.
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    threading.stack_size(THREAD_STACK_BYTES)
    worker = threading.Thread(target=answer_all)
    worker.start()
    worker.join()
