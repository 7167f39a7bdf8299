"""The two kinds of Cortex: their models, their checks and what is derived from them without any I/O."""
