"""The market's rules as plain values and functions."""
