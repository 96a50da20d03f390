"""Everything said to a model and heard back: templates, typed replies, models, and what stands around every call."""
