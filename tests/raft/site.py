"""A server that only listens and writes down what reaches it, for tests of connections."""

import asyncio

from raft.frames import ClientReply, Rejected
from raft.transport import Listener


class News:
    """Something to wait for until a condition holds."""

    def __init__(self):
        self._happened = asyncio.Event()

    def happened(self, *_):
        self._happened.set()

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                self._happened.clear()
                await self._happened.wait()


class Recorder(News):
    """What reaches the port of a server, by kinds."""

    def __init__(self, identity):
        super().__init__()
        self.attached, self.gone, self.messages = [], [], []
        self.requests, self.observers, self.controls, self.lost = [], [], [], []
        self.addresses = {}
        self.on_message = None
        self.listener = Listener(identity, self)

    async def start(self, address="127.0.0.1:0"):
        self.address = await self.listener.start(address)
        return self

    @property
    def connections(self):
        listener = self.listener
        return [*listener._unproven, *listener._callers, *listener._peer_connections.values()]

    def peer_attached(self, peer, address):
        self.attached.append(peer)
        self.addresses[peer] = address
        self.happened()

    def peer_lost(self, peer):
        self.gone.append(peer)
        self.happened()

    def peer_message(self, message):
        self.messages.append(message)
        self.happened()
        if self.on_message:
            self.on_message(message)

    def client_request(self, connection, request):
        self.requests.append(request)
        connection.send(ClientReply(request.id, Rejected(self.answer(connection))))

    def answer(self, connection):
        return "only a test"

    def observer_attached(self, connection):
        self.observers.append(connection)
        self.happened()

    def control(self, connection, control):
        self.controls.append(control)
        self.happened()

    def connection_lost(self, connection):
        self.lost.append(connection)
        self.happened()
