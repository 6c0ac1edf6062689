"""The simulated site before the demo's cameras, and what its vision worker is told of it."""

from __future__ import annotations

import os
from typing import Any

from connectors.simulators.camera import Site

SEED, CAMERAS = 1, 4  # dry weather, two yards, a warehouse and a building site
FPS = 5.0  # of each camera
HOUR = 9.0  # the site's clock at the start: half an hour of the demo is a day
LIMIT_M, CRITICAL_M = 3.0, 1.5

_PEOPLE = ["person"]
_ZONES: dict[str, list[dict[str, Any]]] = {
    "camera-1": [
        {"name": "parking", "polygon": [[0.02, 0.53], [0.98, 0.53], [1.0, 0.41], [0.05, 0.41]], "labels": _PEOPLE}
    ],
    "camera-2": [
        {
            "name": "forklift lane",
            "polygon": [[0.44, 0.35], [0.535, 0.35], [0.63, 1.0], [0.26, 1.0]],
            "labels": _PEOPLE,
            "loiter_s": 8.0,
        }
    ],
    "camera-3": [
        {"name": "lifting area", "polygon": [[0.02, 0.26], [0.34, 0.25], [0.45, 0.52], [0.0, 0.55]], "labels": _PEOPLE}
    ],
    "camera-4": [
        {"name": "exit", "polygon": [[0.0, 0.665], [1.0, 0.665], [1.0, 0.87], [0.0, 0.87]]},
    ],
}
"""For each camera; corners are shares of the picture."""


def site() -> Site:
    """The site; the same in every demo."""
    return Site(SEED, CAMERAS, fps=FPS, hour=HOUR)


def table() -> dict[str, Any]:
    """The table `vision` of the demo's settings: zones, homographies, and how near people and forklifts may come."""
    places = site()
    views = {camera.camera_id: camera.view for camera in map(places.camera, range(CAMERAS))}
    return {
        "threads": max(1, (os.cpu_count() or 1) // 2),  # a broker and another worker are here, too
        "cameras": [
            {"id": name, "homography": view.ground_homography.tolist(), "zones": _ZONES[name]}
            for name, view in views.items()
        ],
        "unsafe_distances": [{"labels": ["person", "forklift"], "limit_m": LIMIT_M, "critical_m": CRITICAL_M}],
    }
