"""What a tomogram is measured for: crack, width, contact, thickness, trends."""
