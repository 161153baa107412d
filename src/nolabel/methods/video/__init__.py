"""Time as the teacher."""
