"""Defence against calls whose requests never arrive."""
