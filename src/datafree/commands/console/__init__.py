"""What a command prints: its first line, text or JSON, and what to do after an interruption."""
