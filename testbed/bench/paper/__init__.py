"""Figures of the papers behind the network-level analysis, closed form and simulation on one plot."""
