"""The torture campaign: kills, placed faults, corruptions, hostile files and random command lines, from fixed seeds."""
