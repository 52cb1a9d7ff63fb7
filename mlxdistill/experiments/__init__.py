"""What runs the pipeline, or asks its models, many times over: for now the comparison of prompts."""
