from tests_pipeline import cli, finished

__all__ = ["cli", "finished"]
