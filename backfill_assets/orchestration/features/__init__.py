"""Features of bars: assets, checks, and the sensor that recomputes what is out of date."""
