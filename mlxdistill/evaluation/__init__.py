"""May the student replace the teacher? Scores with their doubt, beside naive baselines, on two test sets."""
