"""Texts compared with texts: shingles and near duplicates."""
