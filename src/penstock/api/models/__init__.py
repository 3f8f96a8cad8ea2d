"""Lists of models, in each dialect."""
