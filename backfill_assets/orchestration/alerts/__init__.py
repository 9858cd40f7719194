"""The sensors that send alerts. What is wrong is decided in `domain/alert_rules.py`."""
