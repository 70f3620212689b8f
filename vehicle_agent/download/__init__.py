"""HTTPS to disk: bounded, resumable, hashed while it streams."""

from vehicle_agent.download.client import DownloadConfig, Downloader

__all__ = ["DownloadConfig", "Downloader"]
