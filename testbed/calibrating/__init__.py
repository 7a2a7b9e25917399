"""Measurements of radios against themselves and each other, through the contract that every radio keeps."""
