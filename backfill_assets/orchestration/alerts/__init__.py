"""The sensors that send alerts."""
