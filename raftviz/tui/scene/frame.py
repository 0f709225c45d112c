"""One moment to draw: what holds then, and where things stand on the canvas."""

from __future__ import annotations

from dataclasses import dataclass

from raft.core.messages import ServerId
from raftviz.model.view import ClusterView
from raftviz.tui.geometry import Ring
from raftviz.tui.theme import Palette
from raftviz.tui.traffic import SLOW, Traffic


@dataclass(frozen=True, slots=True)
class Frame:
    """A view at a moment: ``now`` on the machine's clock, ``virtual`` on the cluster's."""

    view: ClusterView
    traffic: Traffic
    palette: Palette
    ring: Ring
    now: float
    virtual: float
    selected: ServerId | None
    moving: bool
    """False where the user wants no animation: messages then stand in the middle."""

    @property
    def rate(self) -> float:
        """How fast the cluster's time runs; 0 is frozen."""
        return self.view.clock.rate

    @property
    def followable(self) -> bool:
        """Whether time runs slowly enough to read what a message says."""
        return self.rate <= SLOW

    def place(self, server: ServerId) -> int:
        """Return the server's place on the ring."""
        return list(self.view.servers).index(server)
