"""What a model is made of, how precisely it is held, and what it is called."""
