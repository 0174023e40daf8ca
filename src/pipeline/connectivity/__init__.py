"""Linear connectivity: merged networks, their correction, barriers and loss planes."""
