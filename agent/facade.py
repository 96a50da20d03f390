"""What `import branchwise` offers."""

__all__: list[str] = []
