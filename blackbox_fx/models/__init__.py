"""Networks that operate effects, and tasks to train them on."""
