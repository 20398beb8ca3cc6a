"""A relay for Channel Access on loopback, whose wire can be cut without a word.

Searches go through by UDP and come back with the relay's own TCP port; a client then
talks to the server through the relay. `cut` stops passing anything on, in both
directions, and closes nothing: as a pulled cable does, for which TCP has no FIN.
"""

import socket
import struct
import threading

HEADER = struct.Struct(">HHHHII")  # command, payload size, type, count, two parameters
SEARCH = 6
LOOPBACK = "127.0.0.1"


class ChannelRelay:
    """Pass Channel Access on to the server at a port of this machine."""

    def __init__(self, server_port: int) -> None:
        self._server = (LOOPBACK, server_port)
        self._cut = threading.Event()
        self._listening = socket.create_server((LOOPBACK, 0))
        self._searches = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._searches.bind((LOOPBACK, 0))
        self._sockets = [self._listening, self._searches]
        for target in (self._accept, self._search):
            threading.Thread(target=target, daemon=True).start()

    @property
    def address(self) -> str:
        """What the client's EPICS_CA_ADDR_LIST must hold."""
        return "{}:{}".format(*self._searches.getsockname())

    def cut(self) -> None:
        """Pass nothing on any more."""
        self._cut.set()

    def close(self) -> None:
        """Let go of all sockets."""
        self.cut()
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pass_on, args=(source, sink), daemon=True
                ).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        while not self._cut.is_set():
            try:
                data = source.recv(65536)
                if not data:
                    break
                if not self._cut.is_set():
                    sink.sendall(data)
            except OSError:
                return

    def _search(self) -> None:
        outward = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        outward.settimeout(0.2)
        self._sockets.append(outward)
        while not self._cut.is_set():
            try:
                request, client = self._searches.recvfrom(65536)
                outward.sendto(request, self._server)
                answer, _ = outward.recvfrom(65536)
                self._searches.sendto(self._with_own_port(answer), client)
            except TimeoutError:
                continue
            except OSError:
                return

    def _with_own_port(self, datagram: bytes) -> bytes:
        """Return the answers to a search with the relay's port in them."""
        own_port, out, at = self._listening.getsockname()[1], bytearray(datagram), 0
        while at + HEADER.size <= len(out):
            command, size, kind, count, first, second = HEADER.unpack_from(out, at)
            if command == SEARCH:
                kind = own_port
            HEADER.pack_into(out, at, command, size, kind, count, first, second)
            at += HEADER.size + size
        return bytes(out)
