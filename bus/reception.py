"""The broker's side of the control socket: takes connections, answers requests, notices ends."""

import logging
import selectors
import socket

from bus.control import Connection, Request
from bus.errors import BusError
from bus.operations import Operations, Session
from bus.registry import Registry

logger = logging.getLogger(__name__)


class Reception:
    """Serves every client of one broker from its selector; never blocks."""

    def __init__(
        self,
        listener: socket.socket,
        selector: selectors.BaseSelector,
        operations: Operations,
        registry: Registry,
    ) -> None:
        """Begins to take connections from a listening socket, which stays the caller's."""
        self._listener = listener
        self._selector = selector
        self._operations = operations
        self._registry = registry
        self._sessions: set[Session] = set()
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Ends every connection, and takes no more."""
        self._selector.unregister(self._listener)
        for session in self._sessions:
            session.connection.close()
        self._sessions.clear()

    def _accept(self) -> None:
        connection = Connection.accept(self._listener)
        if connection is None:
            return
        session = Session(connection)
        self._sessions.add(session)
        self._selector.register(
            connection.fileno(), selectors.EVENT_READ, lambda: self._serve(session)
        )

    def _serve(self, session: Session) -> None:
        connection = session.connection
        fd = connection.fileno()
        connection.flush()
        for request in connection.receive():
            self._answer(session, request)
        if connection.closed:
            self._selector.unregister(fd)
            self._forget(session)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.wants_write else 0)
        self._selector.modify(fd, events, lambda: self._serve(session))

    def _answer(self, session: Session, request: Request) -> None:
        try:
            session.connection.reply(request, self._operations.answer(session, request))
        except BusError as error:
            session.connection.fail(request, error)
        except Exception as error:
            # Nothing that a client sends may end the broker of all the others.
            logger.exception("request %r of pid %d", request.op, session.connection.pid)
            session.connection.fail(request, error)

    def _forget(self, session: Session) -> None:
        self._sessions.discard(session)
        if session.is_client:
            self._registry.disconnected(session.slot, session.generation)
