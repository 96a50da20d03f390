"""Offline: from documents to a published index."""
