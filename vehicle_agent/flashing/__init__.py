"""Flashing room: ISO-TP, UDS, the reprogramming sequence, images and controller profiles."""
