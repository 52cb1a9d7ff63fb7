"""The run folder: where things lie, how they are written, who owns it, what may be skipped."""
