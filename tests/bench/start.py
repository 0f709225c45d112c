"""From the command to five live servers on the screen, and to the first leader, at real-time rate.

Run it with `python -m tests.bench.start [TIMES]`.
"""

from __future__ import annotations

from tests.bench.machine import asked, describe, spread
from tests.bench.terminal import Explorer


def once() -> tuple[float, float]:
    """Start the explorer; return seconds to five servers, and to a leader, on the screen."""
    explorer = Explorer("--rate", "1")
    try:
        servers = explorer.until(lambda: all(f"S{n}" in explorer.shown for n in range(1, 6)))
        leader = explorer.until(lambda: "leader S" in explorer.shown)
        return servers - explorer.started, leader - explorer.started
    finally:
        explorer.close()


def main() -> None:
    times = asked(__doc__, "TIMES", int, 10)
    measured = [once() for _ in range(times)]
    print(describe())
    print(f"{times} starts (files cached; the first one {1000 * measured[0][1]:.0f} ms)")
    print(f"five servers on the screen   {spread([servers for servers, _ in measured])}")
    print(f"a leader on the screen       {spread([leader for _, leader in measured])}")


if __name__ == "__main__":
    main()
