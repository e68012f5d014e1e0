"""The history checker: what it records, what it catches, and what it says of our stores."""
