"""What is offered, asked and known: offers, rates, books of offers, and what follows from many of them."""
