"""Rows in: readers for each format, fields, duplicates, splits, and the ingest that puts them together."""
