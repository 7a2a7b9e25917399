"""Numerics of the testbed: arrays in, arrays and small frozen records out.

Knows no file, socket, wall clock or radio. Signs and symbols follow docs/methods/conventions.md.
"""

SPEED_OF_LIGHT_MPS = 299_792_458.0
