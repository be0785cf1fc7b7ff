"""What a run folder holds, checked and read without torch, so that a report needs no network."""
