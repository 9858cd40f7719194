"""OHLCV bars: assets, checks, and the sensor that repairs gaps."""
