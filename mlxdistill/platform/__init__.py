"""What differs between a Mac and Linux."""
