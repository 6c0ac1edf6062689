"""Video frames in; objects, tracks and alerts out."""
