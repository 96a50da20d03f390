"""What is kept, and the records that everything speaks."""
