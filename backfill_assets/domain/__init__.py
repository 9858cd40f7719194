"""The market's rules as plain values and functions.

What lives here: universe, timeframes, sessions, days, bars, request plan, errors. What does not: dagster, httpx, a
database driver, the environment, a clock. Whatever needs the time takes it as an argument.
"""
