"""Splits and dividends: the asset and its check."""
