"""MQTT: notices in, feedback and reports out."""
