"""From a key press to the server process being dead, and to the screen showing it.

Run it with `python -m tests.bench.keypress [TIMES]`.
"""

from __future__ import annotations

import psutil

from tests.bench.machine import asked, describe, spread
from tests.bench.terminal import Explorer


def is_dead(process: psutil.Process) -> bool:
    """Whether it has ended, reaped or not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def server_process(explorer: Explorer, server: int) -> psutil.Process:
    """Return the process of a server, by its command line."""
    for process in explorer.processes()["servers"]:
        arguments = process.cmdline()
        if "--id" in arguments and arguments[arguments.index("--id") + 1] == str(server):
            return process
    raise SystemExit(f"no process of S{server}")


def once(explorer: Explorer, server: int) -> tuple[float, float]:
    """Kill a server with its key; return seconds to its death, and to its being seen."""
    process = server_process(explorer, server)
    explorer.press(str(server))
    explorer.idle(0.5)
    pressed = explorer.press("k")
    dead = explorer.until(lambda: is_dead(process))
    seen = explorer.until(lambda: "killed" in explorer.shown)
    explorer.press("r")
    explorer.until(lambda: len(explorer.processes()["servers"]) == 5)
    explorer.idle(1.0)
    return dead - pressed, seen - pressed


def main() -> None:
    times = asked(__doc__, "TIMES", int, 20)
    explorer = Explorer("--rate", "1")
    try:
        explorer.until(lambda: "leader S" in explorer.shown)
        explorer.idle(1.0)
        measured = [once(explorer, 1 + turn % 5) for turn in range(times)]
    finally:
        explorer.close()
    print(describe())
    print(f"{times} servers killed with a key")
    print(f"process dead            {spread([dead for dead, _ in measured])}")
    print(f"shown on the screen     {spread([seen for _, seen in measured])}")


if __name__ == "__main__":
    main()
