"""A TCP proxy that behaves as badly as a network can, in front of a real server."""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass, field

FAULTS = ("pass", "refuse", "stall", "reset", "500", "slow")


@dataclass
class FaultProxy:
    """Forwards connections to a port of this machine, until its fault sets in."""

    target: int  # port of the server
    fault: str = "pass"
    trigger: bytes = b""  # the fault sets in with the first request that holds these bytes; empty: at once
    pause: float = 3.0  # seconds by which `slow` holds back every request
    seen: list[bytes] = field(default_factory=list)  # first line of every request
    port: int = 0

    def __post_init__(self) -> None:
        self.live = not self.trigger
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        """The address that a client is given."""
        return f"http://127.0.0.1:{self.port}"

    def heal(self) -> None:
        """From now on everything is passed on."""
        self.fault = "pass"

    def close(self) -> None:
        """Take no more connections."""
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _acting(self, request: bytes = b"") -> str:
        if self.trigger and self.trigger in request:
            self.live = True
        return self.fault if self.live else "pass"

    def _serve(self, client: socket.socket) -> None:
        if self._acting() == "refuse":
            _reset(client)
            return
        server = socket.create_connection(("127.0.0.1", self.target))
        threading.Thread(target=_pump, args=(server, client), daemon=True).start()
        try:
            while data := client.recv(65536):
                if b" HTTP/1.1\r\n" in data:
                    self.seen.append(data.split(b"\r\n", 1)[0])
                fault = self._acting(data)
                if fault in ("reset", "refuse"):
                    _reset(client)
                    return
                if fault == "stall":
                    time.sleep(600)
                if fault == "500":
                    client.sendall(
                        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )
                    client.close()
                    return
                if fault == "slow":
                    time.sleep(self.pause)
                server.sendall(data)
        except OSError:
            pass  # one of the two has hung up, which is what faults are about
        finally:
            server.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def _reset(connection: socket.socket) -> None:
    """Hang up with a reset instead of a farewell."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
