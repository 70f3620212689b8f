"""Is it really for this car, from whom it should be, and fresh? Uptane, trusted time, keys."""
