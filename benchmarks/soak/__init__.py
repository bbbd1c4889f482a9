"""Mixed faults under load for minutes or hours, and the comparison of books at the end."""
