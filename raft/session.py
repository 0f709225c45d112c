"""The client's side of exactly-once commands: one session for all of a handle's (thesis §6.3).

A command goes out with a number, and as long as its answer is missing it goes out again with
the same one, to whoever leads by then. The servers carry it out once and answer it every time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from raft.asking import Asked, Asker, Limit
from raft.codec import DecodeError
from raft.errors import OutcomeUnknownError, RejectedError
from raft.frames import Propose, Reply, Result
from raft.machine.sessions import (
    MAX_UNANSWERED,
    CloseSession,
    Numbering,
    OpenSession,
    Performed,
    SessionAnswer,
    SessionOpened,
    UnknownSession,
    decode_answer,
    encode_request,
)

_NOTHING = Propose(b"")


class Session:
    """Proposes commands in a session, which is opened with the first, and anew if it expires."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._numbering: Numbering | None = None
        self._opening = asyncio.Lock()
        self._room = asyncio.Event()

    def close(self) -> None:
        """Let the servers forget the session, which nobody uses any more, and do not wait.

        If that is lost, the session expires. A command that is under way can only come before,
        or find no session: it is not carried out twice.
        """
        numbering, self._numbering = self._numbering, None
        self._room.set()
        if numbering is not None:
            self._asker.tell(Propose(encode_request(CloseSession(numbering.session))))

    def propose(self, command: bytes, timeout: Limit) -> Awaitable[bytes]:
        """Have a command carried out, once; return what the state machine answered.

        Raises what ``Asker.ask`` does; OutcomeUnknownError only when the time is up, or if the
        session expired while the command's answer was missing.
        """
        request = Asked(_NOTHING, numbered=True)
        if isinstance(timeout, asyncio.Timeout):
            return self._propose_until(timeout, request, command)
        return self._propose(request, command, timeout)

    async def _propose_until(self, limit: asyncio.Timeout, request: Asked, command: bytes) -> bytes:
        async with self._asker.limited(request, limit):
            return await self._propose(request, command, None)

    async def _propose(
        self,
        request: Asked,
        command: bytes,
        timeout: float | None,  # noqa: ASYNC109
    ) -> bytes:
        began = asyncio.get_running_loop().time()
        while True:
            numbering = self._numbering
            if numbering is None or numbering.unanswered >= MAX_UNANSWERED:
                async with self._asker.limited(request, timeout, began=began):
                    numbering = await self._open(request)
            perform = numbering.number(command)
            request.body = Propose(encode_request(perform))
            try:
                answer = _answer(await self._asker.ask_cluster(request, timeout, began))
            finally:
                # Answered, or given up: nobody asks for it again.
                numbering.answered(perform)
                self._room.set()
            match answer:
                case Performed(data):
                    return data
                case UnknownSession() if not request.unsure:
                    # It has expired, and nothing was done; other commands may know already.
                    if self._numbering is numbering:
                        self._numbering = None
                case _:
                    raise _error(answer)

    async def _open(self, request: Asked) -> Numbering:
        """Return a session that has room for a command."""
        async with self._opening:
            while (numbering := self._numbering) is None or numbering.unanswered >= MAX_UNANSWERED:
                if numbering is None:
                    self._numbering = await self._begin(request)
                else:
                    self._room.clear()
                    await self._room.wait()
            return numbering

    async def _begin(self, request: Asked) -> Numbering:
        # A session that was opened without our knowing is used by nobody and expires.
        opening = Propose(encode_request(OpenSession()))
        asked = Asked(opening, numbered=True, heard=request.heard)
        answer = _answer(await self._asker.search(asked))
        if not isinstance(answer, SessionOpened):
            raise _error(answer)
        return Numbering(answer.session)


def _answer(reply: Reply) -> SessionAnswer:
    assert isinstance(reply, Result)
    try:
        return decode_answer(reply.data)
    except DecodeError as error:
        raise RejectedError(f"these servers have no sessions: {error}") from None


def _error(answer: SessionAnswer) -> RejectedError | OutcomeUnknownError:
    if isinstance(answer, UnknownSession):
        return OutcomeUnknownError(
            "the session has expired, and with it what became of the command"
        )
    return RejectedError(f"the servers answered {type(answer).__name__}")
