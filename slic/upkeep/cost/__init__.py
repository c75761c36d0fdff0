"""What preparing, training and evaluating will cost: amounts of work times rates."""
