"""`python -m mlxdistill` is the same as `mlxdistill`."""

from mlxdistill.cli import main

if __name__ == "__main__":
    main()
