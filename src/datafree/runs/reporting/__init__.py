"""What a run tells people: the console, the report page, the model card, drawings."""
