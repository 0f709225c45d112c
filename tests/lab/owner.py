"""A program that owns a laboratory: it gives the commands of its arguments, and watches."""

import asyncio
import json
import sys

from raftviz.lab.api import LabClient, LabOptions
from raftviz.model.events import ServerExited, ServerSpawned


async def main(commands):
    lab = await LabClient.spawn(LabOptions(servers=3))
    for command in commands:
        answer = await lab.command(command)
        assert answer.ok, answer.text
    servers = set()
    for event in await lab.next_events():
        if isinstance(event.what, ServerSpawned):
            servers.add(event.what.pid)
        elif isinstance(event.what, ServerExited):
            servers.discard(event.what.pid)
    pids = {"lab": lab._process.process.pid, "servers": sorted(servers)}
    print(json.dumps(pids), flush=True)
    while await lab.next_events():
        pass
    await lab.close()


asyncio.run(main(sys.argv[1:]))
