"""What each candidate's chances are, what to try next, and what recorded outcomes teach."""
