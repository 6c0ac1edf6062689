"""Pictures in, objects or classes out: what stands before a network of vision, and what stands behind it."""
