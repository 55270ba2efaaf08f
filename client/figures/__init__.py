"""What a site computes of its models' scores, and how much of it may leave."""
