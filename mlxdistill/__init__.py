"""Distil a large local model into a small one on your own machine, and measure whether it may be replaced."""

__version__ = "0.1.0"
