"""What a model predicts on known examples: predictions beside the truth, plots, the report as a page."""
