"""What is known of each release (images/)."""
