"""QEMU's machine protocol (QMP) for code that waits: commands and events, by qemu.qmp.

The asyncio client of the QEMU project runs in a thread of its own, so events are recorded
while the caller waits for the serial line.  Protocol: docs/interop/qmp-spec.txt in QEMU.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qemu.qmp import QMPClient
from qemu.qmp.error import QMPError
from qemu.qmp.events import EventListener
from qemu.qmp.qmp_client import ExecuteError

from obsdimg.core.errors import ObsdimgError


class QmpError(ObsdimgError):
    """QEMU refused a command, did not answer in time, or is gone."""


@dataclass(frozen=True)
class QmpEvent:
    """An event from QEMU: its name (`RESET`), its data, and when (seconds, time.monotonic)."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0


class Qmp:
    """A connected QMP session; `events` grows while the guest runs."""

    def __init__(self, sock: socket.socket, timeout: float = 20.0) -> None:
        """Connect over `sock`; raises QmpError without QEMU's greeting in `timeout` seconds."""
        self.events: list[QmpEvent] = []
        self.gone = threading.Event()
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="qmp")
        self._thread.start()
        try:
            self._client: QMPClient = self._wait(self._connect(sock), timeout, "greeting")
        except QmpError:
            self.close()
            raise

    async def _connect(self, sock: socket.socket) -> QMPClient:
        client = QMPClient("obsdimg")
        client.logger.disabled = True  # it logs every lost connection; we raise instead
        listener = EventListener()
        client.register_listener(listener)
        await client.connect(sock)
        self._pump = asyncio.ensure_future(self._record(client, listener))
        return client

    async def _record(self, client: QMPClient, listener: EventListener) -> None:
        async def take() -> None:
            async for message in listener:
                data: Any = message.get("data") or {}
                event = QmpEvent(str(message["event"]), data, time.monotonic())
                with self._changed:
                    self.events.append(event)
                    self._changed.notify_all()

        taker = asyncio.ensure_future(take())
        try:
            while client.runstate.name == "RUNNING":
                await client.runstate_changed()
        finally:
            await asyncio.sleep(0)  # events that came with the last message
            taker.cancel()
            self.gone.set()
            with self._changed:
                self._changed.notify_all()

    def _wait(self, work: Any, timeout: float, what: str) -> Any:
        if not self._loop.is_running() and not self._thread.is_alive():
            work.close()
            raise QmpError(f"QEMU's control line is closed ({what})")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except TimeoutError as error:
            future.cancel()
            raise QmpError(f"QEMU did not answer within {timeout:g} s: {what}") from error
        except ExecuteError as error:
            raise QmpError(f"QEMU refused {what}: {error}") from error
        except (QMPError, OSError, EOFError) as error:
            raise QmpError(f"QEMU's control line failed: {what}: {error}") from error

    def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, timeout: float = 20.0
    ) -> Any:
        """Run one command and return its value.  Raises QmpError."""
        work = self._client.execute(command, dict(arguments) if arguments else None)
        return self._wait(work, timeout, command)

    def human(self, line: str) -> str:
        """A command of the human monitor, where QMP has none; its printed answer."""
        return str(self.execute("human-monitor-command", {"command-line": line}))

    def count(self) -> int:
        """How many events there were so far: the place to start the next `wait_event` from."""
        with self._changed:
            return len(self.events)

    def wait_event(
        self, wanted: Callable[[QmpEvent], bool], timeout: float, since: int = 0
    ) -> QmpEvent | None:
        """The first event from index `since` that is `wanted`; None after `timeout` seconds,
        or when QEMU is gone."""
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                for event in self.events[since:]:
                    if wanted(event):
                        return event
                left = end - time.monotonic()
                if left <= 0 or self.gone.is_set():
                    return None
                self._changed.wait(left)

    def close(self) -> None:
        """End the session and its thread; never raises."""
        client = getattr(self, "_client", None)
        if client is not None:
            with contextlib.suppress(Exception):
                asyncio.run_coroutine_threadsafe(client.disconnect(), self._loop).result(2)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=2)
        if not self._thread.is_alive():
            with contextlib.suppress(Exception):
                self._cancel_all()
            self._loop.close()

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=2))
