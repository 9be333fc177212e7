"""What goes on at the nodes here, what is wrong with them, and why no work comes."""
