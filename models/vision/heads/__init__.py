"""One decoder for each family of detectors: a network's outputs become boxes that may be objects."""
