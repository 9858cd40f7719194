"""First and last trading days of symbols."""
