"""Is this car provably parked, and does it stay so? Signals, frame protection, gate, inhibit."""
