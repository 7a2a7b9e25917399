"""A simulated ADALM-Pluto: its firmware's IIOD server, the AD936x behind it, and the simulator's radio behind that.

`protocol` reads the wire's text, `session` answers it, `server` listens; `attributes` is what a device tree is made
of, `context` writes it as the XML that clients read; `phy`, `converters`, `tdd` and `housekeeping` are the devices;
`chain`, `gains` and `fir` are the AD936x's arithmetic; `engine` is radio time, `buffers` the kernel's queue of blocks;
`cable` and `air` are what lies between a transmitter and a receiver.
"""
