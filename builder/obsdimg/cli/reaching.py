"""Options of every command that works on a running server: as whom it calls, and where."""

from __future__ import annotations

from dataclasses import dataclass

from obsdimg.cli.options import WithConfig, option
from obsdimg.cli.servers import open_project
from obsdimg.core.errors import UsageError
from obsdimg.server.access import ServerAccess, find_access
from obsdimg.server.kept import ServerMemory


class ReachingUsageError(UsageError):
    """An option has a value that makes no sense."""


@dataclass(frozen=True, kw_only=True)
class WithServer(WithConfig):
    """Beside the project's: how to reach its server."""

    client: str | None = option(
        "--as",
        metavar="CLIENT",
        complete="client",
        help="call as this client (default: `operator`, or the only one)",
    )
    endpoint: str | None = option(
        "--endpoint", metavar="HOST:PORT", help="call this instead of the configured endpoint"
    )
    timeout: float = option(
        "--timeout",
        type=float,
        default=20.0,
        metavar="S",
        help="seconds during which the handshake is tried (default: 20)",
    )

    def access(self, *, user: str | None = None) -> ServerAccess:
        """How to reach the server.  Raises what `find_access` does."""
        if not 0.1 <= self.timeout <= 600:
            raise ReachingUsageError(
                f"--timeout {self.timeout:g}: is not between 0.1 and 600", "seconds; 20 is usual"
            )
        return find_access(
            open_project(self), client=self.client, endpoint=self.endpoint, user=user
        )

    def access_now(self, after: ServerAccess) -> ServerAccess:
        """`after`, but at the port at which the server was reached last: the project may have
        another by now, which the server does not know yet."""
        port = ServerMemory.load(after.project).port
        if self.endpoint is not None or port in (None, after.endpoint.port):
            return after
        assert port is not None
        return after.at_port(port)
