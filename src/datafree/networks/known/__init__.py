"""The architectures that are known, by the names and shapes of their weights: which one does a file without a name fit?"""
