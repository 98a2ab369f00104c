"""Public benchmarks as their publishers lay them out, turned into records."""

NAMES = ("acdc", "emidec", "kaggle", "mnms", "mnms2", "sunnybrook")
