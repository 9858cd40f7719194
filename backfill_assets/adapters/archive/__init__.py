"""Bars in files: what an export is made of, and where it is written. It does not know what is due."""
