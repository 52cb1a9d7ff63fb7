"""The student: an MLX model that learns the teacher's labels through LoRA, and answers in its place."""
