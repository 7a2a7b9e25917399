"""Radio profiles, their filters, and the plans that bring a device to them; imports nothing of the other packages."""
