"""What is installed, found and wrong on a machine beside a radio, each with the command that mends it."""
