"""Physics of the simulated world: clocks, scene, propagation, front ends, and the ether that joins them.

Waveform-agnostic: it carries any samples. Imports neither dsp nor testbed, so that simulator and estimator
cannot share a mistake. Signs follow docs/methods/conventions.md.
"""
