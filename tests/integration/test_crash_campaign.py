"""Five random SIGKILLs of a real node; `make crash` does two hundred."""

import random
from pathlib import Path

from tests.crash.campaign import run


def test_nothing_is_lost_over_five_random_kills(tmp_path: Path) -> None:
    figures = run(5, random.SystemRandom().randrange(2**32), tmp_path)
    assert figures["lost"] == 0
    assert figures["final_height"] > 0
