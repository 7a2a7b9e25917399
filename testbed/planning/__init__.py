"""What a layout, a band and clocks allow, before anything is carried to a roof; and whether the run reached it."""
