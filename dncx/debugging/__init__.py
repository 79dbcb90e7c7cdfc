"""`dncx debug`: the update at which a run stopped, and the operation that went wrong first."""
