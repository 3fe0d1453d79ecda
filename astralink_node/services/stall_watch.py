"""Says in the log, in one line, why the chain stands still: now and then while it does, and once when it goes on."""

from typing import Final

import trio

from astralink_node.clock import NowMs
from astralink_node.gateway.stall import explain, is_idle, stall_limit_ms
from astralink_node.log import Log
from astralink_node.services.gateway_link import ConsensusStateSource, NetworkSource, NodeStatusSource

LOOK_INTERVAL_S: Final = 1.0
REPEAT_S: Final = 10.0
"""Between two lines of one stall."""

_log = Log("stall")


class StallWatch:
    """`run` until cancelled. The sources are those of the gateway link; they are asked once a second."""

    def __init__(
        self, status: NodeStatusSource, consensus: ConsensusStateSource, network: NetworkSource, now_ms: NowMs
    ) -> None:
        self._status = status
        self._consensus = consensus
        self._network = network
        self._now_ms = now_ms

    async def run(self) -> None:
        height, stands_since_s, said_s = -1, trio.current_time(), None
        while True:
            status, state, now_s = self._status(), self._consensus(), trio.current_time()
            is_waiting_for_nothing = state is not None and is_idle(
                state.step,
                pending_transactions=status.pending_transactions,
                block_interval_ms=status.block_interval_ms,
                makes_empty_blocks=status.makes_empty_blocks,
            )
            if status.head_height != height or is_waiting_for_nothing:
                if said_s is not None:
                    stood_s = int(now_s - stands_since_s)
                    _log.info("the chain goes on", head=status.head_height, stood_s=stood_s)
                height, stands_since_s, said_s = status.head_height, now_s, None
            is_stalled = 1000 * (now_s - stands_since_s) > stall_limit_ms(status.block_interval_ms)
            if is_stalled and (said_s is None or now_s - said_s >= REPEAT_S):
                why = explain(state, self._network(), self._now_ms())
                _log.warning("no new block", head=height, for_s=int(now_s - stands_since_s), why=why)
                said_s = now_s
            await trio.sleep(LOOK_INTERVAL_S)
