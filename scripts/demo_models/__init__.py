"""The parts of `scripts/build_demo_models.py`: what trains, writes and checks the embedded demo models."""
