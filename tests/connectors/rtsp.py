"""A network camera that speaks RTSP, as far as a player needs it: one H.264 stream, interleaved over TCP."""

from __future__ import annotations

import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av

from tests.connectors.cameras import picture

FPS = 20
SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
)


def access_units(frames: int) -> list[list[bytes]]:
    """NAL units of each frame, every frame a key frame with its parameter sets."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = 64, 48, "yuv420p"
    context.framerate, context.time_base = Fraction(FPS), Fraction(1, FPS)
    context.options = {"tune": "zerolatency", "x264-params": "keyint=1:repeat-headers=1:annexb=1"}
    packets = []
    for number in range(frames):
        packets += context.encode(av.VideoFrame.from_ndarray(picture(number), format="bgr24"))
    packets += context.encode(None)
    return [[nal for nal in re.split(rb"\x00\x00\x00?\x01", bytes(packet)) if nal] for packet in packets]


class _Camera(socketserver.StreamRequestHandler):
    frames = 0

    def handle(self) -> None:
        while (request := self._request()) is not None:
            method, sequence = request.split(" ", 1)[0], re.search(r"(?im)^cseq: *(\d+)", request)
            extra, body = {
                "OPTIONS": ("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""),
                "DESCRIBE": (f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n", SDP),
                "SETUP": ("Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n", ""),
            }.get(method, ("Session: 1\r\n", ""))
            number = sequence[1] if sequence else "0"
            self.wfile.write(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{extra}\r\n{body}".encode())
            if method == "PLAY":
                self._play()
                return

    def _request(self) -> str | None:
        lines = []
        while (line := self.rfile.readline().decode()) not in ("", "\r\n"):
            lines.append(line)
        return "".join(lines) or None

    def _play(self) -> None:
        sequence = 0
        for number, units in enumerate(access_units(self.frames)):
            for place, unit in enumerate(units):
                last = place == len(units) - 1
                header = struct.pack(">BBHII", 0x80, 96 | last << 7, sequence, number * 90_000 // FPS, 1)
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(header + unit)) + header + unit)
                sequence += 1
            time.sleep(1 / FPS / 2)


@contextmanager
def rtsp_camera(frames: int) -> Iterator[str]:
    """An address; each connection gets so many frames, then it is closed."""

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True

        def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
            """A player that has seen enough hangs up."""

    server = Server(("127.0.0.1", 0), type("Camera", (_Camera,), {"frames": frames}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"rtsp://admin:secret@127.0.0.1:{server.server_address[1]}/stream1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
