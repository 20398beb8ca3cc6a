"""A Channel Access repeater for the loopback interface.

Clients look for one on their repeater port, complain if none answers, and learn from
the beacons it passes on that a server has come back.
"""

import asyncio
import struct
from typing import Any

# Command, payload size, data type, data count, two parameters: big endian.
_HEADER = struct.Struct(">HHHHII")
_CONFIRM = 17
_REGISTER = 24
_BEACON = 13
_LOOPBACK = 0x7F000001


class Repeater(asyncio.DatagramProtocol):
    """Confirms clients and passes beacons on to them."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._clients: set[tuple[str, int]] = set()

    def connection_made(self, transport: Any) -> None:
        """Remember where to send from."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Register a client or pass a server's beacon on."""
        if self._transport is None:
            return
        if len(data) < _HEADER.size:  # an empty datagram registers too
            command = _REGISTER
        else:
            command = _HEADER.unpack_from(data)[0]
        if command == _REGISTER:
            self._clients.add(addr)
            confirm = _HEADER.pack(_CONFIRM, 0, 0, 0, 0, _LOOPBACK)
            self._transport.sendto(confirm, addr)
        elif command == _BEACON:
            for client in self._clients:
                self._transport.sendto(data, client)

    def error_received(self, exc: Exception) -> None:
        """Ignore that a client is gone: it does not say goodbye."""


async def run_repeater(port: int) -> None:
    """Serve the port until cancelled; do nothing if another repeater has it."""
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(
            Repeater, local_addr=("127.0.0.1", port)
        )
    except OSError:
        transport = None
    try:
        await asyncio.Event().wait()
    finally:
        if transport is not None:
            transport.close()
