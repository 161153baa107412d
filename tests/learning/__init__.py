"""Does it learn: the short form of the study, on a sample of the methods or on all."""
