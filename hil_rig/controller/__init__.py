"""The simulated ADAS controller: UDS server, bootloader and two banks of flash in a file."""
