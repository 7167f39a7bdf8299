"""`make demo`: the main job on real input, on this machine alone."""
