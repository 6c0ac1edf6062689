"""The vision domain: video frames in; objects, tracks and alerts out, or classes."""
