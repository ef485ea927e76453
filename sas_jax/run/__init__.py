"""One run of the whole method: its stages, in the order of the data flow, and their shared state."""
