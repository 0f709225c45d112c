"""Events as JSON, one a line, for other programs to read.

An event is ``{"sequence", "time", "monotonic", "source", "event"}``; ``time`` is its virtual and
``monotonic`` its monotonic time, ``event`` what happened, with the fields that
``raftviz.model.events`` gives it. What may be of several types says which by ``"type"``: the
event, a message, an outcome. Members of enumerations are their names in lower case, nobody is
``null``, and an entry tells its ``command`` in words beside its ``data``. Bytes are a text if
they are UTF-8, else ``{"base64": ...}``. While servers break rules of Raft on purpose, every
line says so: ``"broken": {"S2": ["vote-twice"]}``. All is ASCII, and no terminal obeys any of it.
"""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from raft.core.messages import Entry, ServerId
from raft.frames import FollowerProgress
from raftviz.model.events import Event
from raftviz.model.machine import command_text

_ALWAYS_OF_ONE_TYPE = (Entry, FollowerProgress)


def event_json(event: Event, broken: Mapping[ServerId, Sequence[str]] | None = None) -> str:
    """Return one event as one line of JSON, without the line's end.

    ``broken`` are the servers that break rules on purpose at that moment.
    """
    line = {
        "sequence": event.sequence,
        "time": event.virtual_time,
        "monotonic": event.monotonic_time,
        "source": event.source,
        "event": _plain(event.what),
    }
    if broken:
        line["broken"] = {f"S{server}": list(rules) for server, rules in broken.items()}
    return json.dumps(line, separators=(",", ":"))


def _plain(value: Any) -> Any:
    match value:
        case enum.Enum():
            return value.name.lower()
        case bytes():
            return _text_or_base64(value)
        case tuple():
            return [_plain(part) for part in value]
        case Entry():
            return _parts(value) | {"command": command_text(value)}
    return _parts(value) if is_dataclass(value) else value


def _parts(value: Any) -> dict[str, Any]:
    tag = {} if isinstance(value, _ALWAYS_OF_ONE_TYPE) else {"type": type(value).__name__}
    return tag | {field.name: _plain(getattr(value, field.name)) for field in fields(value)}


def _text_or_base64(data: bytes) -> str | dict[str, str]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
