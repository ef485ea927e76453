"""One run of the whole method: its stages, in the order the data flows, and what they share."""
