"""All Dagster code that describes the platform: one folder for each family of assets, `build.py` the only wiring."""
