"""Training: recipes, losses, schedules, optimisers, the loop and what it writes."""
