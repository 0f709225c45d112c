"""``raft`` whose servers are 40 ms further from each other than they are, as they measure it.

Run as ``python -m tests.raft.far_away serve …``.
"""

from __future__ import annotations

import sys

from raft import cli
from raft.core.messages import ServerId
from raft.round_trips import RoundTrips

FURTHER = 0.040


class FarAway(RoundTrips):
    """Judges what was measured as if the other servers were far away."""

    def _note(self, peer: ServerId, took: float) -> None:
        super()._note(peer, took + FURTHER)


if __name__ == "__main__":
    from raft import server

    server.RoundTrips = FarAway  # type: ignore[misc]
    sys.exit(cli.main())
