"""One client's TLS stream: packets in, bounded before they are read, and bytes out, bounded in time.

A packet that is too long is refused by its head. What a client does not take within a minute ends its
connection: amqtt would wait for ever, and collect what others send it meanwhile.
"""

import asyncio
import ssl
from typing import Final

from amqtt.adapters import ReaderAdapter, WriterAdapter

from fleet_cloud.adapters.broker.packets import Frame, Malformed

PACKET_BYTES: Final = 128 * 1024 + 1024
"""What Fleet's messages need, with topic and head."""

CONNECT_BYTES: Final = 8 * 1024
WRITE_TIMEOUT_S: Final = 60.0
BODY_TIMEOUT_S: Final = 30.0
BODY_RATE_MIN_BYTES_S: Final = 1024
LENGTH_BYTES: Final = 4


class Wire(ReaderAdapter, WriterAdapter):  # type: ignore[misc]  # amqtt has no types
    """Reader and writer of one connection, as amqtt's handler uses them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.is_cut = False
        """Ended by the broker: what had come before is not read any more. What a client sent before it went
        is."""

    async def read_frame(self, head_timeout_s: float | None, bytes_max: int = PACKET_BYTES) -> Frame | None:
        """Return the next packet, none when the client is gone. Raises `Malformed`, and `TimeoutError`
        when no packet begins in time, or one that began comes too slowly."""
        if self.is_cut:
            return None
        try:
            async with asyncio.timeout(head_timeout_s):
                first = (await self._reader.readexactly(1))[0]
            async with asyncio.timeout(BODY_TIMEOUT_S):
                length = await self._read_length(bytes_max)
            async with asyncio.timeout(BODY_TIMEOUT_S + length / BODY_RATE_MIN_BYTES_S):
                return Frame(first >> 4, first & 15, await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            return None

    async def read(self, n: int = -1) -> bytes:
        return await self._reader.read(n)

    def feed_eof(self) -> None:
        self._reader.feed_eof()

    def write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    async def drain(self) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError("the client is gone")
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._writer.drain()
        except TimeoutError as exc:
            self.abort()
            raise ConnectionResetError("the client takes nothing any more") from exc

    def get_peer_info(self) -> tuple[str, int] | None:
        peer: tuple[str, int] | None = self._writer.get_extra_info("peername")
        return peer and (peer[0], peer[1])

    def get_ssl_info(self) -> ssl.SSLObject | None:
        found: ssl.SSLObject | None = self._writer.get_extra_info("ssl_object")
        return found

    async def close(self) -> None:
        """Close what was sent whole; the listener bounds how long that may take."""
        self._writer.close()

    def abort(self) -> None:
        """Close at once, whatever waits to be sent or read."""
        self.is_cut = True
        self._writer.transport.abort()

    async def _read_length(self, bytes_max: int) -> int:
        length = 0
        for index in range(LENGTH_BYTES):
            byte = (await self._reader.readexactly(1))[0]
            length |= (byte & 0x7F) << 7 * index
            if length > bytes_max:
                raise Malformed(f"a packet is longer than {bytes_max} bytes")
            if byte < 0x80:
                return length
        raise Malformed("the length of a packet has no end")
