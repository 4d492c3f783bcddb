"""What callers and operators read or write."""
