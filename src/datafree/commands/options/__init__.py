"""The options of every command: their table, help, checks and values."""
