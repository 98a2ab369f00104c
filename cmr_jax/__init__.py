"""Joint embeddings of cardiac MR studies and the cardiologist's report."""
