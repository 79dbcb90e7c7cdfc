"""bAbI: short stories with questions, in twenty tasks that are learned jointly, as in the paper."""
