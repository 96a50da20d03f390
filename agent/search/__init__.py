"""The search: from a question to ranked passages, along the tree, with any judge."""
