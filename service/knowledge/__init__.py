"""What decisions are made from, and who changes it."""
