"""The cluster as a picture: pure functions from a view and a moment to cells of a canvas."""
