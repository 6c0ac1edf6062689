"""What a camera on the network does, for tests: an HTTP server, one that sends Motion JPEG, and films to send."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray


def picture(number: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """Grey, but for a bar that tells its number."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[:, : (number % 16 + 1) * width // 16] = (40, 160, 220)
    return pixels


def number_of(value: bytes) -> int:
    """Which `picture` an encoded frame shows, modulo 16."""
    pixels = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    bar = int((pixels[pixels.shape[0] // 2, :, 2] > 155).sum())
    return round(bar * 16 / pixels.shape[1]) - 1


def jpeg(number: int) -> bytes:
    return bytes(cv2.imencode(".jpg", picture(number))[1])


def film(
    path: Path, frames: int, fps: int = 20, codec: str = "mpeg4", size: tuple[int, int] = (64, 48), turned: int = 0
) -> Path:
    """Write a film whose frames can be told apart, to be shown turned to the left by so many degrees."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if turned:
            stream.set_display_rotation(turned)
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, *size), format="bgr24")))
        container.mux(stream.encode())
    return path


@contextmanager
def http_camera(sessions: Sequence[Sequence[bytes]]) -> Iterator[str]:
    """An address that gives one session's pictures a connection, then closes it; after the last, 503 for ever."""
    left = list(sessions)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not left:
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for value in left.pop(0):
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(value)}\r\n\r\n"
                self.wfile.write(head.encode() + value + b"\r\n")

        def log_message(self, *_: object) -> None:
            pass

    with http_server(Handler) as place:
        yield f"http://admin:secret@{place}/live.mjpg?token=hidden"


@contextmanager
def http_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """HOST:PORT of a server that answers as `handler` does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
