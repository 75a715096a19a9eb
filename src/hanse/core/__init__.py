"""What every layer may use: errors, limits, ids, ports. Standard library only."""
