"""Models to test with, and what measures accuracy and speed."""
