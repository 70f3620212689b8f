"""A CAN / CAN FD wire in software: bit-exact frame times, arbitration, a python-can interface."""
