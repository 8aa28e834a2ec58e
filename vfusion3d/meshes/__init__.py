"""Meshes: readers, views rendered from them, and (in `writers`) files written."""
