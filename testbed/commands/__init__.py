"""The commands of `isac`, one module each, loaded when run."""
