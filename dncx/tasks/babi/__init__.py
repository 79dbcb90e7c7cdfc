"""bAbI: short stories with questions, in twenty tasks; as the paper learned them, jointly."""
