"""Splits and dividends: assets and checks."""
