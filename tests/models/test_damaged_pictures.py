"""Any bytes, and any number of threads: never a crash, never more than the limit, never somebody else's picture."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from models.vision.pictures import decode
from tests.models.picture_bytes import (
    encoded,
    refused,
    scene,
)  # fmt: skip

ROOT = Path(__file__).parents[2]

HOSTILE = """
import resource, sys
import numpy as np
from models.vision.pictures import Limits, PictureError, decode
from tests.models.picture_bytes import JPEG, PROGRESSIVE, PNG, WEBP, scene, encoded, with_exif

SEEDS = [JPEG, PROGRESSIVE, PNG, WEBP, with_exif("JPEG", 6), with_exif("WEBP", 6), with_exif("PNG", 6),
         encoded(scene(60, 40), "WEBP", lossless=True), encoded(scene(60, 40).convert("CMYK"), "JPEG")]
rng = np.random.default_rng(int(sys.argv[1]))
for data in SEEDS:
    decode(data)
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = taken + 16 * 1_000_000 + 64 * 1024 * 1024
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
good = bad = 0
for _ in range(4000):
    data = bytearray(SEEDS[rng.integers(len(SEEDS))])
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(min(len(data), 400) if rng.random() < 0.6 else len(data)))
        data[place : place + int(rng.integers(0, 3))] = rng.bytes(int(rng.integers(0, 4)))
    if rng.random() < 0.2:
        del data[int(rng.integers(len(data))) :]
    try:
        picture = decode(bytes(data), Limits(max_pixels=1_000_000), at_least=(8, 8) if rng.random() < 0.3 else None)
    except PictureError:
        bad += 1
    else:
        good += 1
        height, width, _ = picture.pixels.shape
        if (width * picture.factor, height * picture.factor) != (picture.width, picture.height):
            sys.exit("sizes do not agree")
print(good, bad)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_bytes_neither_crash_nor_cost_more_than_the_limit(seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(seed)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    good, bad = map(int, done.stdout.split())
    assert good > 300
    assert bad > 1000


def test_random_bytes_behind_every_signature_are_refused() -> None:
    rng = np.random.default_rng(3)
    for start in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\0\0\0WEBP", b"RIFF\x10\0\0\0WEBPVP8X", b""):
        for _ in range(200):
            refused(start + rng.bytes(int(rng.integers(1, 400))))


def test_threads_get_their_own_pictures_and_their_own_errors() -> None:
    pictures = [encoded(scene(160, 120, seed), "JPEG") for seed in range(6)]
    expected = [decode(data).pixels for data in pictures]
    wrong: list[str] = []

    def work(start: int) -> None:
        for turn in range(60):
            index = (start + turn) % len(pictures)
            if not np.array_equal(decode(pictures[index]).pixels, expected[index]):
                wrong.append("pixels")
            if refused(pictures[index][:-300] + b"\xff\xd9").kind != "PictureTruncated":
                wrong.append("truncated")
            if refused(b"GIF89a" + bytes(turn)).kind != "PictureForeign":
                wrong.append("foreign")

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
