"""Training a student model with a teacher."""
