"""Features of bars: assets, checks, and the sensor that keeps them up to date."""
