"""Nothing leaves the machine."""
