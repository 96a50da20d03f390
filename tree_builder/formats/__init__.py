"""What each kind of file holds, as documents: one module a kind, all of them pure readers of one file."""
