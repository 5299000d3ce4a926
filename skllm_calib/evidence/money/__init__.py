"""Money: what tokens cost, what a run will cost, and what it may cost."""
