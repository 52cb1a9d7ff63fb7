"""What is learned: the row, the task, its prompt, and the two protocols in which stages meet models."""
