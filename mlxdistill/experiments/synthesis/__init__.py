"""New rows for classes that have few: the teacher writes them from rows that are there, and is asked about each."""
