"""The table of estimates: students of many kinds, their estimated and their true retention."""
