"""The command line: one function per command, imported when it is called."""
