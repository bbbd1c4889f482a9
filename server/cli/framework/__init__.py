"""Code that all commands share: settings, connections, output, errors and help."""
