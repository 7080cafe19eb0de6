"""What a Service is to its clients: each new connection goes to the pod of now, old ones stay where they are."""

import selectors
import socket
import threading
from types import TracebackType

from lepton_workloads.serve.runner import listen


class Forwarder:
    """Copies bytes between clients and `target`, a port that may change."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._listener = listen(0)
        self.port = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Forwarder":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.1):
                if key.fileobj is self._listener:
                    self._connect()
                else:
                    self._copy(key.fileobj, key.data)

    def _connect(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        self._selector.register(client, selectors.EVENT_READ, server)
        self._selector.register(server, selectors.EVENT_READ, client)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        try:
            data = source.recv(65536)
            if data:
                target.sendall(data)
                return
        except OSError:
            data = b""
        for one in (source, target):
            if one.fileno() >= 0 and one in self._selector.get_map():
                self._selector.unregister(one)
            one.close()
