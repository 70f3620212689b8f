"""One set of commands, two doors: the Unix socket and (later) the technician's serial line."""
