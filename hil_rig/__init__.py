"""Hardware-in-the-loop rig: wire, car, controller and backend around a vehicle-agent under test."""
