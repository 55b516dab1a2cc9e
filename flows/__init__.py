"""What happens to a visit, in order; each file reads as a recipe."""
