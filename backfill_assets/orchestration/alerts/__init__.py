"""The sensors that send alerts. The rules are in `domain/alert_rules.py`."""
