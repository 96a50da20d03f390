"""Online: from a question to passages and cited answers, and every way in."""
