"""What experts on the CPU reach of a host's memory, from one run that its user measured."""
