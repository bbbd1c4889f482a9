"""Problems: what arms are worth, and how outcomes come back."""
