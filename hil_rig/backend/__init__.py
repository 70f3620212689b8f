"""The maker's side: repositories, image server, broker, desk; and the display in the car."""
