"""Pictures in, objects out."""
