"""On-vehicle OTA update agent: from an MQTT notice to software read back from the controller."""

__version__ = "0.1.0"
